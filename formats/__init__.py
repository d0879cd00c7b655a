"""The files that people write about a rack: their schemas, their reading, and what is wrong with them."""
