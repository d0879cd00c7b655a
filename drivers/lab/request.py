"""A request to join as somebody makes it who need not be honest: any token, any identity, any image, no checks."""

import ssl
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.ca import request_for
from drivers.join.messages import PATH, Asked, No
from drivers.join.pinned import Unreachable, Untrusted, post

ANSWER_S = 10.0


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot script says, to whoever reads it."""

    node: str
    mac: str
    server: str
    image: str
    token: str
    join: int = 8443
    uuid: str = ""

    @classmethod
    def of(cls, words: Mapping[str, str], uuid: str = "") -> "Ticket":
        """Read kernel words ``moxie.*``. Raises: KeyError if one is missing."""
        found = {key: words[f"moxie.{key}"] for key in ("node", "mac", "server", "image", "token")}
        return cls(**found, join=int(words.get("moxie.join", "8443")), uuid=uuid)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``admitted``: a certificate was given; ``problem``: no server answered as one does."""

    admitted: bool = False
    refused: str = ""
    problem: str = ""


def redeem(ticket: Ticket, uuid: str, mac: str = "", image: str = "") -> Answer:
    """Show a token; ``mac`` and ``image`` are the ticket's where nothing else is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = Asked(
        token=ticket.token,
        uuid=uuid,
        mac=mac or ticket.mac,
        image=image or ticket.image,
        csr=request_for(key, ticket.node).decode(),
    )
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE  # whoever shows a stolen token does not care whom
    try:
        status, data = post(blind, ticket.server, ticket.join, PATH, msgspec.json.encode(asked), ANSWER_S)
        if status == 200:
            return Answer(admitted=True)
        return Answer(refused=msgspec.json.decode(data, type=No).refused)
    except (Unreachable, Untrusted, msgspec.DecodeError) as error:
        return Answer(problem=str(error) or type(error).__name__)
