// The jobs of the vault over time, one row for each item.
/* global uPlot */
import { clock, colour, day, drawMark, duration, element, moment, OUTCOMES } from "./common.js?v=@version@";
import { byId, byItem, DAY, durationOf, endOf, shownJobs, state } from "./model.js?v=@version@";

const ROW = 24; // pixels
export const axisFont = "12px system-ui, 'DejaVu Sans', sans-serif";

let plot = null;
let shown = []; // the jobs on the timeline, each with its row
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

export function markChosen() {
  plot?.redraw(false);
}

export function timeAxis() {
  return {
    stroke: colour("quiet"), font: axisFont, size: 34, space: 70,
    grid: { stroke: colour("line"), width: 0.5 }, ticks: { stroke: colour("line"), width: 0.5 },
    values: (_, splits) =>
      splits.map((seconds) => {
        const date = new Date(seconds * 1000);
        const step = splits.length > 1 ? splits[1] - splits[0] : DAY;
        return step >= DAY || clock(date) === "00:00" ? day(date).replace(/^\w+,? /, "") : clock(date);
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
  const more = items.length - visible.length;
  byId("more").hidden = state.view !== "plot" || more <= 0;
  byId("more").textContent = `Show ${more} more ${more === 1 ? "item" : "items"}`;
  box.ariaLabel = `Timeline of ${shown.length} jobs of ${visible.length} items`;
  if (!shown.length) {
    const text = state.answer.read_at === null ? "Loading…" : "No jobs in this period.";
    box.replaceChildren(element("p", { className: "quiet empty" }, text));
    return;
  }
  const width = box.clientWidth;
  const names = Math.min(170, Math.max(84, width * 0.24));
  box.replaceChildren();
  plot = new uPlot(
    {
      width,
      height: visible.length * ROW + 52,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: true, dist: 6 } },
      scales: { x: { time: true, range: periodShown }, y: { dir: -1, range: () => [-0.6, visible.length - 0.4] } },
      series: [{}, { paths: () => null, points: { show: false } }],
      axes: [
        timeAxis(),
        {
          stroke: colour("fg"), font: axisFont, size: names, gap: 8, ticks: { show: false },
          grid: { stroke: colour("line"), width: 0.5 },
          splits: () => visible.map((_, row) => row),
          values: ({ ctx }, rows) => {
            ctx.save();
            ctx.font = axisFont;
            const texts = rows.map((row) => fitted(visible[row].name, names - 16, ctx));
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
  plot.over.addEventListener("mousemove", (event) => {
    const job = nearest(event);
    plot.over.title = job
      ? `${job.item}: ${job.operation}, ${job.status}, ${moment(job.start)}, ${duration(durationOf(job))}`
      : "";
  });
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
