"use strict";
// Everything that is shown goes through textContent: names and texts come from devices.
const PERIOD = 2000;
const byId = (id) => document.getElementById(id);

function make(tag, kind, ...children) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...children);
  return node;
}

// A text in an element, written only when it changed, so that a selection survives.
function say(id, text, kind) {
  const node = typeof id === "string" ? byId(id) : id;
  if (node.textContent !== String(text)) node.textContent = text;
  if (kind !== undefined) node.className = kind;
}

// Children of a list or a table's body; nothing is touched when nothing changed.
const shown = new Map();
function fill(id, items, row, none) {
  const was = JSON.stringify(items);
  if (shown.get(id) === was) return;
  shown.set(id, was);
  byId(id).replaceChildren(...items.map(row));
  const empty = byId(`${id}-none`), table = byId(`${id}-table`);
  if (empty) { empty.hidden = items.length > 0; if (none) empty.textContent = none; }
  if (table) table.hidden = items.length === 0;
}

function tr(name, ...cells) {
  const head = make("th", "", name);
  head.scope = "row";
  head.setAttribute("role", "rowheader");
  const row = make("tr", "", head, ...cells.map((cell) => (cell.tagName === "TD" ? cell : make("td", "", cell))));
  row.setAttribute("role", "row");
  for (const cell of row.querySelectorAll(":scope > td")) cell.setAttribute("role", "cell");
  return row;
}

// A name that may be broken behind its marks, and is still copied as it is.
const breakable = (name) => name.split(/(?<=[._\/:@-])/).flatMap((part, n) => (n ? [make("wbr"), part] : [part]));
const td = (kind, ...children) => make("td", kind, ...children);
const badge = (kind, text) => make("span", `badge ${kind}`, text);
const count = (number) => (number == null ? "–" : Math.round(number).toLocaleString("en").replaceAll(",", "\u202f"));
// Six digits, but all of those in front of the point and two behind it: a meter counts millions of watt hours.
const digits = (number) => Math.min(17, Math.max(6, Math.ceil(Math.log10(Math.abs(number) + 1)) + 2));
const plain = (number) => Number(number.toPrecision(digits(number))).toString();

function rate(perSecond) {
  if (perSecond == null) return "–";
  return perSecond < 10 ? perSecond.toFixed(perSecond < 1 && perSecond > 0 ? 2 : 1) : count(perSecond);
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) { number /= 1024; at += 1; }
  return `${at && number < 100 ? number.toFixed(1) : Math.round(number)} ${units[at]}`;
}

// Two units are enough to act on; they stay on one line.
function span(seconds) {
  return spaced(seconds).replaceAll(" ", "\u00a0");
}

function spaced(seconds) {
  if (seconds == null) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  if (m > 0) return `${m} min ${s} s`;
  return `${s} s`;
}

function millis(ms) {
  if (ms == null) return "–";
  return ms < 1000 ? `${ms} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : span(ms / 1000);
}

function spark(values, title) {
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const low = Math.min(...values), high = Math.max(...values), room = high - low;
  svg.setAttribute("aria-label", `${title}: ${plain(low)} to ${plain(high)}`);
  const line = document.createElementNS(SVG, "polyline");
  const at = (value, n) => `${(100 * n / (values.length - 1)).toFixed(1)},${(room ? 18.5 - 17 * (value - low) / room : 10).toFixed(1)}`;
  line.setAttribute("points", values.map(at).join(" "));
  svg.append(line);
  return svg;
}

const STATES = { up: "good", connecting: "warn", down: "bad" };

function links(links) {
  fill("links", links, (link) => tr(
    make("span", "", ...breakable(link.name || link.kind), make("div", "soft", link.kind)),
    td("", badge(STATES[link.state] || "bad", link.state), " ", make("span", "soft", `for\u00a0${span(link.since_s)}`),
      make("div", "soft", link.detail || "")),
  ));
}

function incidents(incidents) {
  fill("incidents", incidents, (one) => {
    const when = make("time", "soft", `${span(one.age_s)} ago`);
    const times = one.count > 1 ? ` ×${count(one.count)}` : "";
    return make("li", "", when, badge(one.level === "error" ? "bad" : "warn", one.level), ` ${one.message}${times}`,
      make("div", "", make("code", "", one.detail)));
  });
}

function frame(status, name) {
  document.title = `${status.ready ? "" : "! "}${name}`;
  say("name", name);
  say("ready", status.ready ? "ready" : "not ready", `badge ${status.ready ? "good" : "bad"}`);
  say("version", `${status.version}, up ${span(status.uptime_s)}`);
  links(status.links);
  incidents(status.incidents);
}

let answered = Date.now();
async function poll() {
  if (!document.hidden) {
    try {
      const response = await fetch("status.json", { cache: "no-store" });
      if (!response.ok) throw new Error(`status ${response.status}`);
      show(await response.json());
      answered = Date.now();
      byId("stale").hidden = true;
    } catch (error) {
      say("stale", `No answer for ${span((Date.now() - answered) / 1000)}: what is shown is old.`);
      byId("stale").hidden = false;
    }
  }
  setTimeout(poll, PERIOD);
}
document.addEventListener("DOMContentLoaded", poll);
