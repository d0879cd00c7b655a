(function () {
  "use strict";
  var by = function (id) { return document.getElementById(id); };
  var rows = Array.prototype.slice.call(document.querySelectorAll("#incidents tr"));
  var words = rows.map(function (row) { return row.textContent.toLowerCase(); });
  function show() {
    var text = by("text").value.toLowerCase(), node = by("node").value, service = by("service").value;
    var detail = by("detail").checked, count = 0;
    rows.forEach(function (row, index) {
      var nodes = row.dataset.node.split(",");
      var on = (detail || row.className !== "l-detail") && (!node || nodes.indexOf(node) >= 0) &&
        (!service || row.dataset.service === service) && (!text || words[index].indexOf(text) >= 0);
      row.hidden = !on;
      count += on ? 1 : 0;
    });
    by("count").textContent = count + " of " + rows.length + " lines";
  }
  ["text", "node", "service", "detail"].forEach(function (id) { by(id).addEventListener("input", show); });
  show();
})();
