// Small charts in SVG. Each says in words what it shows, for those who do not see it.
import { attributes, element, replaceKeyed } from "/static/dom.js";
import { figure } from "/static/format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;

function svg(tag, given, ...content) {
  const made = attributes(document.createElementNS(SVG, tag), given);
  made.append(...content);
  return made;
}

/** `[[x, y], ...]` runs of known values: a value that is null makes a hole. */
function runs(values, xOf, yOf) {
  const found = [[]];
  values.forEach((value, index) => {
    if (typeof value === "number") found.at(-1).push([xOf(index), yOf(value)]);
    else if (found.at(-1).length) found.push([]);
  });
  return found.filter((run) => run.length);
}

const line = (run) => run.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function paths(values, highest, height, tone, low = 0) {
  const step = values.length > 1 ? WIDTH / (values.length - 1) : 0;
  const reach = highest - low || 1;
  const found = runs(values, (index) => index * step, (value) => height - 1 - ((value - low) / reach) * (height - 3));
  const drawn = [];
  for (const run of found) {
    if (run.length === 1) run.push([Math.min(WIDTH, run[0][0] + 1), run[0][1]]);
    const area = `${line(run)}L${run.at(-1)[0].toFixed(1)} ${height}L${run[0][0].toFixed(1)} ${height}Z`;
    drawn.push(svg("path", { d: area, class: `area ${tone}` }));
    drawn.push(svg("path", { d: line(run), class: `line ${tone}`, "vector-effect": "non-scaling-stroke" }));
  }
  return drawn;
}

/** A round number at or above a value, for the top of a chart. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((each) => each * unit).find((each) => each >= value * 0.999);
}

const highestOf = (values) => values.reduce((most, value) => (typeof value === "number" && value > most ? value : most), 0);
const lastOf = (values) => values.findLast((value) => typeof value === "number") ?? null;

/** A line without axes. `top` is the value at its upper edge, the greatest one without it. */
export function sparkline(values, label, tone = "", top = null, height = 36) {
  const highest = top ?? (highestOf(values) || 1);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": label });
  drawing.append(...paths(values, highest, height, tone));
  return drawing;
}

/**
 * A chart with its title and figure. `series`: [{values, tone, name}], all as long as `times` (milliseconds).
 * Pointing at it tells the values there.
 */
export function chart({ title, unit, times, series, span }) {
  const height = 72;
  const highest = roundUp(Math.max(...series.map((each) => highestOf(each.values))));
  const now = lastOf(series[0].values);
  const unitText = unit ? ` ${unit}` : "";
  const words = `${title}, ${span}: now ${figure(now)}${unitText}, highest ${figure(highestOf(series[0].values))}${unitText}`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": words });
  drawing.append(svg("line", { x1: 0, x2: WIDTH, y1: height / 2, y2: height / 2, class: "grid", "vector-effect": "non-scaling-stroke" }));
  for (const each of series) drawing.append(...paths(each.values, highest, height, each.tone ?? ""));
  const mark = attributes(element("i", "mark"), { hidden: true });
  const plot = element("div", "plot", drawing, mark, element("span", "top", `${figure(highest)}`));
  const value = element("span", "now", figure(now), element("span", "unit", unitText));
  const head = element("div", "chart-head", element("h3", "", title), value);
  const from = element("span", "", times.length ? `${span} ago` : "");
  const axis = element("div", "axis", from, element("span", "", "now"));
  const made = element("figure", "chart", head, plot, axis);
  pointing(plot, mark, times, (index) => {
    value.textContent = index === null ? figure(now) : series.map((each) => figure(each.values[index])).join(" / ");
    value.append(element("span", "unit", unitText));
    const at = index === null ? null : new Date(times[index]);
    from.textContent = at ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }) : `${span} ago`;
  });
  return made;
}

function pointing(plot, mark, times, onIndex) {
  plot.addEventListener("pointermove", (event) => {
    if (times.length < 2) return;
    const box = plot.getBoundingClientRect();
    const part = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    const index = Math.round(part * (times.length - 1));
    mark.hidden = false;
    mark.style.setProperty("left", `${(100 * index) / (times.length - 1)}%`);
    onIndex(index);
  });
  plot.addEventListener("pointerleave", () => {
    mark.hidden = true;
    onIndex(null);
  });
}

/** Draw charts in `place`; one whose data is as it was stays as it is. While a pointer is over one, it waits. */
export function drawCharts(place, charts) {
  if (place.matches(":hover") && place.childElementCount === charts.length) return;
  replaceKeyed(place, charts, (each) => each.title, chart, (each) => `${each.times.at(-1)} ${each.times.length} ${each.span}`);
}
