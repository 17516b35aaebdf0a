// The jobs of the vault over time, one row for each item.
/* global uPlot */
import { colour, drawMark, element, OUTCOMES } from "./common.js?v=@version@";
import { byId, byItem, DAY, durationOf, endOf, MOST_ROWS, PAGE, shownJobs, state } from "./model.js?v=@version@";
import { clock, day, duration, moment, zoneName } from "./time.js?v=@version@";

// Pixels. Where there is little room, the name of an item stands above its jobs and not next to them.
const ROW = 24;
const TALL_ROW = 40;
const NARROW = 600;
export const tzDate = (seconds) => uPlot.tzDate(new Date(seconds * 1000), zoneName());
export const axisFont = "12px system-ui, 'DejaVu Sans', sans-serif";

let plot = null;
let shown = []; // the jobs on the timeline, each with its row
let names = []; // of the rows
let zoom = null; // the period shown, if it is not all
let choose = () => {};

// The handler is called with the job that the user selects, or with null.
export function onChoose(handler) {
  choose = handler;
}

export function showAll() {
  zoom = null;
}

export function clearTimeline() {
  plot?.destroy();
  plot = null;
  shown = [];
}

// The details stand below the row of the selected job.
export function markChosen() {
  plot?.redraw(false);
  const detail = byId("detail");
  const found = shown.find(({ job }) => job === state.chosen);
  if (!plot || !found) return;
  const { left, top } = plot.over.getBoundingClientRect();
  const around = byId("timeline").parentElement.getBoundingClientRect();
  const x = left - around.left + plot.valToPos(found.job.start, "x");
  detail.style.top = `${top - around.top + plot.valToPos(found.row, "y") + 14}px`;
  detail.style.left = `${Math.max(0, Math.min(x, around.width - detail.offsetWidth))}px`;
  detail.scrollIntoView({ block: "nearest" });
}

export function timeAxis() {
  return {
    stroke: colour("quiet"), font: axisFont, size: 34, space: 70,
    grid: { stroke: colour("line"), width: 0.5 }, ticks: { stroke: colour("line"), width: 0.5 },
    values: (_, splits) =>
      splits.map((seconds) => {
        const step = splits.length > 1 ? splits[1] - splits[0] : DAY;
        return step >= DAY || clock(seconds) === "00:00" ? day(seconds) : clock(seconds);
      }),
  };
}

function fitted(text, width, canvas) {
  if (canvas.measureText(text).width <= width) return text;
  while (text.length > 2 && canvas.measureText(`${text}…`).width > width) text = text.slice(0, -1);
  return `${text}…`;
}

function drawJobs(drawn) {
  const { ctx, bbox } = drawn;
  const ratio = devicePixelRatio;
  const colours = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, colour(outcome)]));
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  if (isNarrow()) {
    ctx.font = axisFont.replace("12", 12 * ratio);
    ctx.fillStyle = colour("fg");
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    for (const [row, name] of names.entries()) {
      ctx.fillText(fitted(name, bbox.width - 8 * ratio, ctx), bbox.left + 4 * ratio, drawn.valToPos(row, "y", true) - 10 * ratio);
    }
  }
  for (const { job, row } of shown) {
    const y = drawn.valToPos(row, "y", true);
    const from = drawn.valToPos(job.start, "x", true);
    const to = drawn.valToPos(endOf(job), "x", true);
    ctx.globalAlpha = 0.35;
    ctx.fillStyle = colours[job.outcome];
    ctx.fillRect(from, y - 3 * ratio, Math.max(to - from, ratio), 6 * ratio);
    ctx.globalAlpha = 1;
    const x = Math.max(from, Math.min(to, bbox.left + bbox.width - 6 * ratio));
    drawMark(ctx, job.outcome, x, y, 4.5 * ratio, colours[job.outcome]);
    if (job === state.chosen) {
      ctx.strokeStyle = colour("focus");
      ctx.lineWidth = 2 * ratio;
      ctx.strokeRect(from - 8 * ratio, y - 9 * ratio, Math.max(to - from, 0) + 16 * ratio, 18 * ratio);
    }
  }
  ctx.restore();
}

const isNarrow = () => byId("timeline").clientWidth < NARROW;

function periodShown() {
  return zoom ?? [state.answer.now - state.days * DAY, state.answer.now + state.days * DAY * 0.02];
}

export function drawTimeline() {
  const box = byId("timeline");
  const items = byItem(shownJobs().filter((job) => job.start));
  const visible = items.slice(0, state.items);
  clearTimeline();
  shown = visible.flatMap((item, row) => item.jobs.map((job) => ({ job, row })));
  shown.sort((one, other) => one.job.start - other.job.start);
  names = visible.map(({ name }) => name);
  const more = Math.min(PAGE, items.length - visible.length);
  byId("more").hidden = state.view !== "plot" || more <= 0 || state.items >= MOST_ROWS;
  byId("more").textContent = `Show ${more} more of ${items.length}`;
  box.ariaLabel = `Timeline of ${shown.length} jobs of ${visible.length} items`;
  if (!shown.length) {
    const text = state.answer.read_at === null ? "Loading…" : "No jobs in this period.";
    box.replaceChildren(element("p", { className: "quiet empty" }, text));
    return;
  }
  const width = box.clientWidth;
  const narrow = isNarrow();
  const room = Math.min(240, width * 0.24); // of the names
  box.replaceChildren();
  plot = new uPlot(
    {
      width,
      height: visible.length * (narrow ? TALL_ROW : ROW) + 52,
      padding: [10, 30, 0, narrow ? 16 : 0],
      tzDate,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: true, dist: 6 } },
      scales: { x: { time: true, range: periodShown }, y: { dir: -1, range: () => [narrow ? -0.8 : -0.6, visible.length - 0.4] } },
      series: [{}, { paths: () => null, points: { show: false } }],
      axes: [
        timeAxis(),
        {
          show: !narrow, stroke: colour("fg"), font: axisFont, size: room, gap: 8, ticks: { show: false },
          grid: { stroke: colour("line"), width: 0.5 },
          splits: () => visible.map((_, row) => row),
          values: ({ ctx }, rows) => {
            ctx.save();
            ctx.font = axisFont;
            const texts = rows.map((row) => fitted(names[row], room - 16, ctx));
            ctx.restore();
            return texts;
          },
        },
      ],
      hooks: { draw: [drawJobs], setSelect: [zoomIn] },
    },
    [shown.map(({ job }) => job.start), shown.map(({ row }) => row)],
    box,
  );
  plot.over.addEventListener("dblclick", () => {
    showAll();
    drawTimeline();
  });
  plot.over.addEventListener("click", (event) => choose(nearest(event)));
  plot.over.addEventListener("mousemove", (event) => showTip(nearest(event), event));
  plot.over.addEventListener("mouseleave", () => showTip(null));
}

function showTip(job, event) {
  const tip = byId("tip");
  tip.hidden = !job;
  if (!job) return;
  tip.replaceChildren(
    element("strong", {}, job.title),
    element("div", {}, `${job.operation} ${job.outcome}, ${moment(job.start)}, ${duration(durationOf(job))}`),
  );
  const around = tip.parentElement.getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(event.clientX - around.left + 12, around.width - tip.offsetWidth))}px`;
  tip.style.top = `${event.clientY - around.top + 16}px`;
}

function zoomIn(drawn) {
  const { left, width } = drawn.select;
  if (width > 0) zoom = [drawn.posToVal(left, "x"), drawn.posToVal(left + width, "x")];
}

function nearest(event) {
  const { left, top } = plot.over.getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top];
  let best = null;
  let closest = 20;
  for (const { job, row } of shown) {
    const from = plot.valToPos(job.start, "x");
    const to = plot.valToPos(endOf(job), "x");
    const distance = Math.hypot(Math.max(from - x, x - to, 0), y - plot.valToPos(row, "y"));
    if (distance < closest) [best, closest] = [job, distance];
  }
  return best;
}

// The keyboard

const inRow = (row) => shown.filter((each) => each.row === row);

function inSameRow(chosen, step) {
  const row = inRow(chosen?.row ?? 0);
  return chosen ? row[row.indexOf(chosen) + step] : row.at(-1);
}

function inNextRow(chosen, step) {
  const start = chosen?.job.start ?? state.answer.now;
  const distance = ({ job }) => Math.abs(job.start - start);
  return inRow(chosen ? chosen.row + step : 0).sort((one, other) => distance(one) - distance(other))[0];
}

// The keys that move to another job.
const MOVES = {
  __proto__: null,
  ArrowRight: (chosen) => inSameRow(chosen, 1),
  ArrowLeft: (chosen) => inSameRow(chosen, -1),
  ArrowDown: (chosen) => inNextRow(chosen, 1),
  ArrowUp: (chosen) => inNextRow(chosen, -1),
  Home: (chosen) => inRow(chosen?.row ?? 0)[0],
  End: (chosen) => inRow(chosen?.row ?? 0).at(-1),
};

export function handleKey(event) {
  if (!shown.length) return;
  const chosen = shown.find(({ job }) => job === state.chosen);
  const { key } = event;
  if (MOVES[key]) {
    const next = MOVES[key](chosen);
    if (next) choose(next.job);
  } else if (key === "Escape") {
    choose(null);
  } else if (key === "Enter" && chosen) {
    const detail = byId("detail");
    detail.tabIndex = -1;
    detail.focus();
    detail.scrollIntoView({ block: "nearest" });
  } else return;
  event.preventDefault();
}
