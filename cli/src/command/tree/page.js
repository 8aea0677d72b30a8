"use strict";
// The state is the fragment of the address: v, what is shown (image, all, wasted or a layer's number), and p, the way
// from the root by the numbers of entries. So every box is a link, and the browser's own keys work. Text of others is
// only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#9ec5fe", "#a3cfbb", "#ffe69c", "#f1aeb5", "#c5b3e6", "#9eeaf9", "#fecba1", "#d3d6da", "#efadce", "#b5d99c"];
const byId = (id) => document.getElementById(id);
const UNITS = ["B", "kB", "MB", "GB", "TB"];

function bytes(size) {
  let unit = 0;
  while (size >= 1000 && unit + 1 < UNITS.length) { size /= 1000; unit += 1; }
  const digits = unit === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return String(Number(size.toFixed(digits))) + UNITS[unit];
}

function state() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const view = fields.get("v") || "image";
  const path = (fields.get("p") || "").split(".").filter((part) => /^\d+$/.test(part)).map(Number);
  return { view, path };
}

function address(view, path) {
  return "#v=" + encodeURIComponent(view) + (path.length ? "&p=" + path.join(".") : "");
}

function counts(view, leaf) {
  switch (view) {
    case "image": return leaf.h === undefined;
    case "all": return true;
    case "wasted": return leaf.h !== undefined;
    default: return String(leaf.l) === view;
  }
}

// Bytes of an entry in a view, and those of each layer in it.
function weigh(view) {
  const sums = new Map();
  const visit = (node) => {
    const sum = { size: 0, layers: new Map() };
    if (node.c) {
      for (const child of node.c) {
        const inner = visit(child);
        sum.size += inner.size;
        for (const [layer, size] of inner.layers) sum.layers.set(layer, (sum.layers.get(layer) || 0) + size);
      }
    } else if (counts(view, node)) {
      sum.size = node.s;
      sum.layers.set(node.l, node.s);
    }
    sums.set(node, sum);
    return sum;
  };
  visit(data.root);
  return sums;
}

// Squarified treemap (Bruls, Huizing, van Wijk): rows along the shorter side, as long as boxes become squarer.
function squarify(entries, x, y, width, height) {
  const boxes = [];
  let rest = entries.filter((entry) => entry.size > 0).sort((a, b) => b.size - a.size);
  let total = rest.reduce((sum, entry) => sum + entry.size, 0);
  while (rest.length && width > 0.5 && height > 0.5) {
    const short = Math.min(width, height), scale = width * height / total;
    let row = 0, count = 0, worst = Infinity;
    while (count < rest.length) {
      const next = row + rest[count].size, area = next * scale;
      const largest = rest[0].size * scale, smallest = rest[count].size * scale;
      const ratio = Math.max(short * short * largest / (area * area), area * area / (short * short * smallest));
      if (count && ratio > worst) break;
      row = next; worst = ratio; count += 1;
    }
    const thick = row * scale / short;
    let along = 0;
    for (const entry of rest.slice(0, count)) {
      const long = entry.size * scale / thick;
      boxes.push(width >= height
        ? { entry, x, y: y + along, width: thick, height: long }
        : { entry, x: x + along, y, width: long, height: thick });
      along += long;
    }
    if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
    rest = rest.slice(count);
    total -= row;
  }
  return boxes;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function label(node) { return node.n + (node.c ? "/" : ""); }

function layersOf(sum) {
  return [...sum.layers.keys()].sort((a, b) => a - b).map((layer) => layer + 1).join(", ");
}

function entriesOf(node, sums) {
  return (node.c || []).map((child, number) => ({ node: child, number, size: sums.get(child).size }));
}

function place(made, box) {
  made.style.left = box.x + "px"; made.style.top = box.y + "px";
  made.style.width = Math.max(0, box.width) + "px"; made.style.height = Math.max(0, box.height) + "px";
}

function paint(made, node) {
  made.style.background = COLOURS[node.l % COLOURS.length];
  if (node.h !== undefined) made.classList.add("hidden");
}

// What a directory holds, drawn into its box below a heading: to look at, not to click.
function fill(made, node, box, heading, sums, depth) {
  if (!depth || box.width < 50 || box.height < heading + 16) return;
  for (const inner of squarify(entriesOf(node, sums), 3, heading, box.width - 8, box.height - heading - 5)) {
    const child = inner.entry.node, small = element("span", "box");
    small.setAttribute("aria-hidden", "true");
    if (child.c) small.classList.add(depth % 2 ? "inner" : "outer"); else paint(small, child);
    place(small, inner);
    if (inner.width > 40 && inner.height > 15) small.append(element("b", "", label(child)));
    if (child.c) fill(small, child, inner, 17, sums, depth - 1);
    made.append(small);
  }
}

function drawMap(view, path, node, sums) {
  const map = byId("map");
  map.replaceChildren();
  for (const box of squarify(entriesOf(node, sums), 0, 0, map.clientWidth, map.clientHeight)) {
    const { node: child, number, size } = box.entry;
    const made = element(child.c ? "a" : "div", "box");
    const says = label(child) + ", " + bytes(size) + ", layer " + layersOf(sums.get(child)) +
      (child.h === undefined ? "" : ", hidden by layer " + (child.h + 1));
    made.title = says;
    made.setAttribute("aria-label", says);
    if (child.c) made.href = address(view, [...path, number]);
    else { made.tabIndex = 0; made.setAttribute("role", "img"); paint(made, child); }
    place(made, box);
    if (box.width > 34 && box.height > 16) {
      made.append(element("b", "", label(child)));
      if (box.height > 32) made.append(element("i", "", bytes(size)));
    }
    if (child.c) fill(made, child, box, 34, sums, 3);
    map.append(made);
  }
  if (!map.firstChild) map.append(element("p", "facts", "Nothing here."));
}

function drawList(view, path, node, sums) {
  const whole = sums.get(node).size || 1;
  const rows = entriesOf(node, sums).filter((entry) => entry.size > 0).sort((a, b) => b.size - a.size);
  byId("list").caption.textContent = rows.length + (rows.length === 1 ? " entry" : " entries");
  byId("list").tBodies[0].replaceChildren(...rows.map(({ node: child, number, size }) => {
    const row = element("tr");
    const name = element("td");
    if (child.c) {
      const link = element("a", "", label(child));
      link.href = address(view, [...path, number]);
      name.append(link);
    } else {
      name.textContent = label(child) + (child.h === undefined ? "" : "  (hidden by layer " + (child.h + 1) + ")");
    }
    row.append(element("td", "number", bytes(size)), element("td", "number", (100 * size / whole).toFixed(1) + " %"),
      name, element("td", "number", layersOf(sums.get(child))));
    return row;
  }));
}

function drawViews(view, path) {
  const total = data.layers.reduce((sum, layer) => sum + layer.size, 0);
  const wasted = data.layers.reduce((sum, layer) => sum + layer.wasted, 0);
  const choices = [["image", "Image", total - wasted, "what a container sees"], ["all", "All", total, "what the layers hold"],
    ["wasted", "Wasted", wasted, "what later layers replace or remove"],
    ...data.layers.map((layer, number) => [String(number), "Layer " + (number + 1), layer.size, layer.command])];
  byId("views").replaceChildren(...choices.map(([value, name, size, what], at) => {
    const link = element("a");
    // The directory stays when the view changes.
    link.href = address(value, path);
    if (value === view) link.setAttribute("aria-current", "true");
    const title = element("span");
    const swatch = element("span", "swatch");
    if (at > 2) swatch.style.background = COLOURS[(at - 3) % COLOURS.length];
    title.append(swatch, name);
    link.append(title, element("span", "bytes", bytes(size)), element("span", "what", what));
    link.title = what;
    return link;
  }));
}

function drawCrumbs(view, trail) {
  const parts = [];
  trail.forEach((node, depth) => {
    const link = element("a", "", depth ? node.n + "/" : "/");
    link.href = address(view, depth ? state().path.slice(0, depth) : []);
    if (depth + 1 === trail.length) link.setAttribute("aria-current", "page");
    parts.push(link);
  });
  byId("crumbs").replaceChildren(...parts);
}

function draw() {
  const { view, path } = state();
  const trail = [data.root];
  for (const number of path) {
    const next = (trail[trail.length - 1].c || [])[number];
    if (!next || !next.c) break;
    trail.push(next);
  }
  const way = path.slice(0, trail.length - 1), node = trail[trail.length - 1], sums = weigh(view);
  drawViews(view, way);
  drawCrumbs(view, trail);
  drawMap(view, way, node, sums);
  drawList(view, way, node, sums);
}

addEventListener("hashchange", draw);
addEventListener("resize", draw);
addEventListener("keydown", (event) => {
  const { view, path } = state();
  if (event.key === "Escape" && path.length) location.hash = address(view, path.slice(0, -1));
});
draw();
