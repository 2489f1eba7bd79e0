"use strict";
// Small helpers, and pictures of all systems. Texts only ever go into text nodes: they may hold markup.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = [
  "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0Z", "M-5 -5H5V5H-5Z", "M0 -6.5L6.2 5H-6.2Z",
  "M0 -7L7 0L0 7L-7 0Z", "M0 6.5L6.2 -5H-6.2Z",
  "M-2.2 -6.5H2.2V-2.2H6.5V2.2H2.2V6.5H-2.2V2.2H-6.5V-2.2H-2.2Z",
  "M-6 -3.2L-3.2 -6L0 -2.8L3.2 -6L6 -3.2L2.8 0L6 3.2L3.2 6L0 2.8L-3.2 6L-6 3.2L-2.8 0Z",
  "M-3.2 -6H3.2L6.4 0L3.2 6H-3.2L-6.4 0Z",
];

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
const el = (name, props, ...children) => fill(document.createElement(name), props, children);
const svg = (name, props, ...children) => fill(document.createElementNS(SVG, name), props, children);

const NONE = "–";
const known = (x) => typeof x === "number";
function percent(x) {
  if (!known(x)) return NONE;
  return `${(100 * x).toFixed(x > 0.9995 || x === 0 ? 0 : 1)}\u00a0%`;
}
const number = (x, digits = 2) => (known(x) ? x.toFixed(digits) : NONE);
const whole = (x) => (known(x) ? Math.round(x).toLocaleString("en") : NONE);
const seconds = (x) => (!known(x) ? NONE : x < 1 ? `${Math.round(1000 * x)} ms` : `${x.toFixed(1)} s`);
function points(x) {
  if (!known(x)) return NONE;
  const size = Math.abs(100 * x).toFixed(1);
  return size === "0.0" ? "±0.0" : `${x < 0 ? "−" : "+"}${size}`;
}
const share = (x) => `${+(100 * x).toFixed(2)}\u00a0%`;
const range = (low, high) => `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)}\u00a0%`;
const plural = (n, one) => `${whole(n)}\u00a0${one}${n === 1 ? "" : "s"}`;
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
function mean(values) {
  const some = values.filter(known);
  return some.length ? some.reduce((sum, x) => sum + x, 0) / some.length : null;
}
const nothing = () => el("p", { class: "muted" }, "Nothing was measured here.");

/** A mark for a system: colour and shape, always in the same order. */
function marker(n) {
  const mark = svg("path", { d: SHAPES[n % SHAPES.length], class: "mark" });
  return svg("svg", { class: `marker s${n % 8}`, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark);
}

/** A table that scrolls in its own box. Columns: {head, cell, text: left-aligned, row: heads its row}. */
function table(caption, columns, rows) {
  const head = columns.map((c) => el("th", { scope: "col", class: c.text || c.row ? null : "num" }, c.head));
  const line = (row) => el("tr", {}, columns.map((c) => (
    c.row ? el("th", { scope: "row" }, c.cell(row)) : el("td", { class: c.text ? null : "num" }, c.cell(row))
  )));
  const body = el("tbody", {}, rows.map(line));
  const title = el("caption", {}, el("span", {}, caption));
  const made = el("table", { class: "figures" }, title, el("thead", {}, el("tr", {}, head)), body);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
}

/** The least round number that is not below: the end of an axis. */
function ceiling(x) {
  const base = 10 ** Math.floor(Math.log10(Math.max(x, 1e-9)));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * base).find((end) => end >= x * 0.9999);
}
function ticks(end, count) {
  const base = 10 ** Math.floor(Math.log10(end / count));
  const step = [1, 2, 2.5, 5, 10].map((s) => s * base).find((s) => end / s <= count + 0.001) || end;
  return Array.from({ length: Math.floor(end / step + 0.001) + 1 }, (_, n) => n * step);
}

/** Draw again whenever the width changes. */
function responsive(box, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== last) box.replaceChildren(draw((last = width)));
  }).observe(box);
  return box;
}

const pen = document.createElement("canvas").getContext("2d");
function textWidth(text, font = "600 13px system-ui, sans-serif") {
  pen.font = font;
  return pen.measureText(text).width;
}

/** How much two boxes {x, y, w, h} overlap. */
function overlap(a, b) {
  const w = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  return w > 0 && h > 0 ? w * h : 0;
}

/** Points that coincide, as of systems that give the same text, share one label of several lines. */
function clusters(dots) {
  const found = [];
  for (const dot of dots) {
    const near = found.find((some) => Math.hypot(some[0].x - dot.x, some[0].y - dot.y) < 5);
    if (near) near.push(dot);
    else found.push([dot]);
  }
  return found;
}

/** A place for each cluster's label, near it: over no mark, no other label, and little of the crosses. */
function placeLabels(groups, area) {
  const dots = groups.flat();
  const around = (d, x, y) => ({ dot: d, x: d.x - x, y: d.y - y, w: 2 * x, h: 2 * y });
  const solid = dots.map((d) => around(d, 9, 9)), near = dots.map((d) => around(d, 34, 26));
  const thin = dots.flatMap((d) => [
    { x: d.x0, y: d.y - 1, w: d.x1 - d.x0, h: 2 }, { x: d.x - 1, y: d.y0, w: 2, h: d.y1 - d.y0 },
  ]);
  const total = (box, others) => others.reduce((sum, one) => sum + overlap(box, one), 0);
  return groups.map((group) => {
    const w = Math.max(...group.map((d) => textWidth(d.label))) + (group.length > 1 ? 22 : 4);
    const h = 18 * group.length, endX = area.x + area.w - w, endY = area.y + area.h - h;
    const tried = [];
    const strange = near.filter((one) => !group.includes(one.dot)); // a label there would seem to be theirs
    for (let reach = 12; reach <= 130; reach += 8) {
      for (let turn = 0; turn < 16; turn += 1) {
        const x = group[0].x + Math.cos((turn * Math.PI) / 8) * (reach + w / 2) - w / 2;
        const y = group[0].y + Math.sin((turn * Math.PI) / 8) * (reach + h / 2 - 5) - h / 2;
        const box = { x: clamp(x, area.x, endX), y: clamp(y, area.y, endY), w, h };
        const outside = w * h - overlap(box, area);
        const covers = total(box, solid) * 10 + total(box, thin) * 1.5 + total(box, strange) * 0.3;
        tried.push({ box, cost: reach * 2 + outside * 50 + covers + (turn % 8) * 0.1 });
      }
    }
    const { box } = tried.reduce((best, one) => (one.cost < best.cost ? one : best));
    solid.push(box);
    return { group, box };
  });
}

/** The line from a point to its label, where the label stands apart. */
function leader({ group, box }) {
  const { x, y } = group[0];
  const tx = clamp(x, box.x, box.x + box.w), ty = clamp(y, box.y + 3, box.y + box.h - 3);
  if (Math.hypot(tx - x, ty - y) <= 16) return null;
  return svg("path", { class: `leader s${group[0].n % 8}`, d: `M${x} ${y}L${tx} ${ty}` });
}

/** The frontier: over-refusal across, attack success upwards. */
function scatter(rows, systems, width) {
  const height = clamp(width * 0.5, 440, 520), top = 30, low = height - 46, left = 48, right = width - 14;
  const endX = ceiling(Math.max(0.02, ...rows.map((r) => r.refusal.high)));
  const endY = ceiling(Math.max(0.02, ...rows.map((r) => r.attack.high)));
  const X = (v) => left + ((right - left) * v) / endX, Y = (v) => low - ((low - top) * v) / endY;
  const dots = rows.map((r) => {
    const n = systems.findIndex((s) => s.name === r.system);
    const at = { n, row: r, label: systems[n].label, x: X(r.refusal.value), y: Y(r.attack.value) };
    return { ...at, x0: X(r.refusal.low), x1: X(r.refusal.high), y0: Y(r.attack.high), y1: Y(r.attack.low) };
  });
  const area = { x: left + 2, y: top + 2, w: right - left - 4, h: low - top - 4 };
  const labels = placeLabels(clusters(dots), area);
  const title = (x, y, text, more) => svg("text", { class: "title", x, y, ...more }, text);
  const middle = { "text-anchor": "middle" };
  const about = "Attack success against over-refusal; the numbers are in the table below";
  return picture("chart", width, height, about,
    scatterGrid({ left, right, top, low, endX, endY, X, Y }, width),
    title((left + right) / 2, height - 6, "over-refusal: benign requests refused", middle),
    title(0, 14, width < 500 ? "attack success" : "attack success: attacks answered"),
    title(right, 14, "↙ lower left is better", { class: "title better", "text-anchor": "end" }),
    dots.map(cross), labels.map(leader), dots.map(mark), labels.map(lettering).flat());
}

function picture(kind, width, height, about, ...parts) {
  const viewBox = `0 0 ${width} ${height}`;
  return svg("svg", { class: kind, width, height, viewBox, role: "img", "aria-label": about }, ...parts);
}

function scatterGrid({ left, right, top, low, endX, endY, X, Y }, width) {
  const across = ticks(endX, width < 500 ? 4 : 8).map((v) => [
    svg("path", { d: `M${X(v)} ${top}V${low}` }),
    svg("text", { x: X(v), y: low + 18, "text-anchor": v === endX ? "end" : "middle" }, share(v)),
  ]);
  const upwards = ticks(endY, 6).map((v) => [
    svg("path", { d: `M${left} ${Y(v)}H${right}` }),
    svg("text", { x: left - 7, y: Y(v) + 4, "text-anchor": "end" }, share(v)),
  ]);
  const axes = svg("path", { class: "axis", d: `M${left} ${top}V${low}H${right}` });
  return svg("g", { class: "grid" }, across.flat(), upwards.flat(), axes);
}

function cross(dot) {
  const d = `M${dot.x0} ${dot.y}H${dot.x1}M${dot.x} ${dot.y0}V${dot.y1}`;
  return svg("path", { class: `cross s${dot.n % 8}`, d });
}

function mark(dot) {
  const { attack, refusal } = dot.row;
  const told = (name, one) => `${name} ${percent(one.value)} (${range(one.low, one.high)})`;
  const text = `${dot.label}: ${told("attack success", attack)}, ${told("over-refusal", refusal)}`;
  return shape(dot.n, dot.x, dot.y, 1.15, svg("title", {}, text));
}

function shape(n, x, y, scale, title = null) {
  const transform = `translate(${x} ${y}) scale(${scale})`;
  return svg("path", { class: `mark s${n % 8}`, d: SHAPES[n % SHAPES.length], transform }, title);
}

function lettering({ group, box }) {
  const many = group.length > 1;
  return group.map((dot, i) => [
    many ? shape(dot.n, box.x + 8, box.y + 18 * i + 9, 0.8) : null,
    svg("text", { class: "label", x: box.x + (many ? 19 : 2), y: box.y + 18 * i + 13 }, dot.label),
  ]).flat();
}

/** One small multiple: a bar for each system, a whisker for its interval, the number beside it. */
function bars(title, about, rows, systems, end, unit) {
  const at = (v) => `${(100 * Math.min(v, end)) / end}%`;
  const line = (system, n) => {
    const row = rows.find((r) => r.system === system.name);
    const name = el("th", { scope: "row" }, marker(n), el("span", {}, system.label));
    if (!row || !known(row.value)) {
      return el("tr", { class: "none" }, name, el("td", { colspan: "2" }, unit.missing));
    }
    const limits = known(row.low) && { class: "whisker", "--a": at(row.low), "--w": at(row.high - row.low) };
    const bar = el("div", {}, el("i", { class: "bar", "--w": at(row.value) }), limits && el("i", limits));
    const track = el("td", { class: "track", "aria-hidden": "true" }, bar);
    const beside = row.beside && el("small", {}, ` ${row.beside}`);
    const spoken = row.title && el("span", { class: "spoken" }, `, ${row.title}`);
    const value = el("td", { class: "value" }, unit.text(row.value), beside, spoken);
    return el("tr", { class: `s${n % 8}`, title: row.title }, name, track, value);
  };
  const caption = el("caption", {}, el("strong", {}, title), el("span", { class: "muted" }, ` ${about}`));
  return el("table", { class: "bars" }, caption, el("tbody", {}, systems.map(line)));
}
