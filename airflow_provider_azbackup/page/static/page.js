// The page: the jobs of one vault on a timeline, what is overdue, one item over time, and who gates on what.
/* global uPlot */
import {
  ask, clock, colour, complain, day, drawMark, duration, element, errorList, followTheme, mark, moment, OUTCOMES,
  outcomeOf, Refused, show, size, taskAddress,
} from "./common.js";

const PAGE = 50; // rows of a table at a time
const ROWS = 30; // items on the timeline until more are asked for
const LATE = matchMedia("(max-width: 600px)").matches ? 4 : 8; // what is overdue, likewise
const ROW = 24; // pixels
const DAY = 86400;

const at = (id) => document.getElementById(id);
const state = {
  connections: [], answer: null, gates: [], gatesCut: false, byJob: new Map(), hidden: new Set(), days: 7, form: "plot",
  rows: PAGE, gateRows: PAGE, items: ROWS, late: LATE, chosen: null, item: "", picked: false, within: 26,
};
let timeline = null;
let shown = []; // jobs on the timeline, with the row of each
const small = [];

// What is shown

function jobs() {
  const { answer, days, hidden } = state;
  const since = answer.now - days * DAY;
  return answer.jobs.filter(
    (job) => !hidden.has(job.outcome) && (job.outcome === "running" || (job.end ?? job.start ?? 0) >= since),
  );
}

const sizeOf = (job) => state.byJob.get(job.id.toLowerCase())?.find((gate) => gate.size)?.size ?? null;
const gatesOf = (job) => state.byJob.get(job.id.toLowerCase()) ?? [];
const lasted = (job) =>
  job.outcome === "running" && job.start ? state.answer.now - job.start : job.duration ?? (job.end && job.start ? job.end - job.start : null);

// Items with trouble come first, then those that were backed up last.
const URGENCY = { __proto__: null, failed: 0, running: 1, warned: 2, cancelled: 3, succeeded: 4 };

function byItem(list) {
  const items = new Map();
  for (const job of list) {
    if (!items.has(job.key)) items.set(job.key, { key: job.key, name: job.item || "unnamed", jobs: [] });
    items.get(job.key).jobs.push(job);
  }
  return [...items.values()].sort(
    (one, other) =>
      URGENCY[one.jobs[0].outcome] - URGENCY[other.jobs[0].outcome] || one.name.localeCompare(other.name),
  );
}

// Head

function tellState() {
  const { answer } = state;
  if (!answer) return;
  const age = Math.max(0, Date.now() / 1000 - answer.heard + (answer.now - answer.read_at));
  const parts = [];
  if (answer.read_at === null) {
    const next = answer.next_at > answer.now ? `; next look at Azure ${moment(answer.next_at).split(", ")[1]}` : "";
    parts.push(answer.reading ? "Reading the jobs from Azure…" : `Nothing has been read yet${next}.`);
  }
  else {
    parts.push(`${answer.jobs.length} jobs, ${age < 20 ? "read just now" : `as of ${duration(age)} ago`}`);
    if (answer.cut) parts.push("only the newest are shown");
    if (answer.reading) parts.push("reading anew…");
    else if (answer.next_at > answer.now) parts.push(`next look at Azure ${moment(answer.next_at).split(", ")[1]}`);
  }
  const text = parts.join(" · ");
  if (at("told").textContent !== text) at("told").textContent = text;
}

function tellLegend() {
  const since = state.answer.now - state.days * DAY;
  const inSpan = state.answer.jobs.filter((job) => job.outcome === "running" || (job.end ?? job.start ?? 0) >= since);
  const focused = document.activeElement?.dataset?.outcome;
  at("legend").replaceChildren(
    ...OUTCOMES.map((outcome) => {
      const count = inSpan.filter((job) => job.outcome === outcome).length;
      const button = element(
        "button",
        { type: "button", ariaPressed: String(!state.hidden.has(outcome)), title: `Show or hide jobs that are ${outcome}` },
        mark(outcome), `${outcome} ${count}`,
      );
      button.dataset.outcome = outcome;
      button.addEventListener("click", () => {
        if (!state.hidden.delete(outcome)) state.hidden.add(outcome);
        tellJobs();
      });
      return button;
    }),
  );
  if (focused) at("legend").querySelector(`[data-outcome="${focused}"]`)?.focus();
}

function tellLate() {
  const { overdue, now, read_at: readAt, items, items_fault: fault } = state.answer;
  const names = overdue.map((each) => each.item);
  // Two of one name are told apart by the resource group of what is protected.
  const group = (each) =>
    names.indexOf(each.item) === names.lastIndexOf(each.item) ? "" : each.source?.match(/\/resourceGroups\/([^/]+)/i)?.[1];
  const words = {
    __proto__: null,
    no_backup: (each) => (each.since ? `Last good backup ${duration(now - each.since)} ago` : "No good backup is known"),
    running: (each) => (each.since ? `Last good backup ${duration(now - each.since)} ago; one is running` : "The first backup is running"),
    long: (each) => `Running for ${duration(now - each.since)}${each.usual ? `; its longest this week took ${duration(each.usual)}` : ""}`,
  };
  at("late").replaceChildren(
    ...overdue.slice(0, state.late).map((each) =>
      element(
        "li",
        { className: each.why === "no_backup" ? "" : "running" },
        element("strong", {}, each.item),
        group(each) ? element("span", { className: "quiet" }, ` in ${group(each)}`) : null,
        element("div", { className: "quiet" }, words[each.why](each)),
      ),
    ),
  );
  at("late-count").textContent = overdue.length ? String(overdue.length) : "";
  at("more-late").hidden = overdue.length <= state.late;
  at("more-late").textContent = `Show the other ${overdue.length - state.late}`;
  const none = at("late-none");
  none.hidden = overdue.length > 0 && !fault;
  if (readAt === null) none.textContent = "…";
  else if (fault) none.textContent = `What the vault protects could not be listed: ${fault}`;
  else if (items) none.textContent = `Nothing: each of ${items} protected items has a good backup that is new enough.`;
  else none.textContent = state.answer.reading ? "Reading what the vault protects…" : "Nothing: the vault protects nothing.";
}

// Timeline

function spanOf() {
  return [state.answer.now - state.days * DAY, state.answer.now + state.days * DAY * 0.02];
}

const axisFont = "12px system-ui, 'DejaVu Sans', sans-serif";

function timeAxis() {
  return {
    stroke: colour("quiet"), font: axisFont, size: 34, space: 70,
    grid: { stroke: colour("line"), width: 0.5 }, ticks: { stroke: colour("line"), width: 0.5 },
    values: (_, splits) =>
      splits.map((seconds, place) => {
        const date = new Date(seconds * 1000);
        const step = splits.length > 1 ? splits[1] - splits[0] : DAY;
        if (step >= DAY || (clock(date) === "00:00" && place >= 0)) return day(date).replace(/^\w+,? /, "");
        return clock(date);
      }),
  };
}

function fitted(text, width, canvas) {
  if (canvas.measureText(text).width <= width) return text;
  while (text.length > 2 && canvas.measureText(`${text}…`).width > width) text = text.slice(0, -1);
  return `${text}…`;
}

function drawJobs(plot) {
  const { ctx } = plot;
  const ratio = devicePixelRatio;
  const colours = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, colour(outcome)]));
  ctx.save();
  ctx.beginPath();
  ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
  ctx.clip();
  for (const { job, row } of shown) {
    const y = plot.valToPos(row, "y", true);
    const from = plot.valToPos(job.start, "x", true);
    const to = plot.valToPos(job.outcome === "running" ? state.answer.now : job.end ?? job.start, "x", true);
    ctx.globalAlpha = 0.35;
    ctx.fillStyle = colours[job.outcome];
    ctx.fillRect(from, y - 3 * ratio, Math.max(to - from, ratio), 6 * ratio);
    ctx.globalAlpha = 1;
    drawMark(ctx, job.outcome, Math.max(from, Math.min(to, plot.bbox.left + plot.bbox.width - 6 * ratio)), y, 4.5 * ratio, colours[job.outcome]);
    if (job === state.chosen) {
      ctx.strokeStyle = colour("focus");
      ctx.lineWidth = 2 * ratio;
      ctx.strokeRect(from - 8 * ratio, y - 9 * ratio, Math.max(to - from, 0) + 16 * ratio, 18 * ratio);
    }
  }
  ctx.restore();
}

function drawTimeline() {
  const box = at("timeline");
  const items = byItem(jobs().filter((job) => job.start));
  const visible = items.slice(0, state.items);
  shown = visible.flatMap((item, row) => item.jobs.map((job) => ({ job, row })));
  shown.sort((one, other) => one.job.start - other.job.start);
  const more = items.length - visible.length;
  at("more").hidden = state.form !== "plot" || more <= 0;
  at("more").textContent = `Show the other ${more} items`;
  timeline?.destroy();
  timeline = null;
  box.ariaLabel = `Timeline of ${shown.length} jobs of ${visible.length} items`;
  if (!shown.length) {
    box.replaceChildren(element("p", { className: "quiet empty" }, state.answer.read_at === null ? "Reading…" : "No job in this time."));
    return;
  }
  const width = box.clientWidth;
  const names = Math.min(170, Math.max(84, width * 0.24));
  box.replaceChildren();
  timeline = new uPlot(
    {
      width,
      height: visible.length * ROW + 52,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: true, dist: 6 } },
      scales: { x: { time: true, range: () => zoom ?? spanOf() }, y: { dir: -1, range: () => [-0.6, visible.length - 0.4] } },
      series: [{}, { paths: () => null, points: { show: false } }],
      axes: [
        timeAxis(),
        {
          stroke: colour("fg"), font: axisFont, size: names, gap: 8, ticks: { show: false },
          grid: { stroke: colour("line"), width: 0.5 },
          splits: () => visible.map((_, row) => row),
          values: (plot, splits) => {
            plot.ctx.save();
            plot.ctx.font = axisFont;
            const texts = splits.map((row) => fitted(visible[row].name, names - 16, plot.ctx));
            plot.ctx.restore();
            return texts;
          },
        },
      ],
      hooks: { draw: [drawJobs], setSelect: [zoomIn] },
    },
    [shown.map(({ job }) => job.start), shown.map(({ row }) => row)],
    box,
  );
  timeline.over.addEventListener("dblclick", () => {
    zoom = null;
    drawTimeline();
  });
  timeline.over.addEventListener("click", (event) => choose(nearest(event)));
  timeline.over.addEventListener("mousemove", (event) => {
    const job = nearest(event);
    timeline.over.title = job ? `${job.item}: ${job.operation}, ${job.status}, ${moment(job.start)}, ${duration(lasted(job))}` : "";
  });
}

let zoom = null; // from when to when, if not all is shown

function zoomIn(plot) {
  const { left, width } = plot.select;
  if (width > 0) zoom = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
}

function nearest(event) {
  const { left, top } = timeline.over.getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top];
  let best = null;
  let closest = 20;
  for (const { job, row } of shown) {
    const from = timeline.valToPos(job.start, "x");
    const to = timeline.valToPos(job.outcome === "running" ? state.answer.now : job.end ?? job.start, "x");
    const far = Math.hypot(x < from ? from - x : x > to ? x - to : 0, y - timeline.valToPos(row, "y"));
    if (far < closest) [best, closest] = [job, far];
  }
  return best;
}

function walk(event) {
  if (!shown.length) return;
  const here = shown.find(({ job }) => job === state.chosen);
  const inRow = (row) => shown.filter((each) => each.row === row);
  let next = null;
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    const row = inRow(here?.row ?? 0);
    const step = event.key === "ArrowRight" ? 1 : -1;
    next = here ? row[row.indexOf(here) + step] : row.at(-1);
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const row = here ? here.row + (event.key === "ArrowDown" ? 1 : -1) : 0;
    const start = here?.job.start ?? state.answer.now;
    next = inRow(row).sort((one, other) => Math.abs(one.job.start - start) - Math.abs(other.job.start - start))[0];
  } else if (event.key === "Home" || event.key === "End") {
    next = inRow(here?.row ?? 0).at(event.key === "Home" ? 0 : -1);
  } else if (event.key === "Escape") {
    choose(null);
  } else if (event.key === "Enter" && here) {
    const detail = at("detail");
    detail.tabIndex = -1;
    detail.focus();
    detail.scrollIntoView({ block: "nearest" });
  } else return;
  event.preventDefault();
  if (next) choose(next.job);
}

function gateLink(gate) {
  const name = `${gate.dag_id}.${gate.task_id}${gate.map_index >= 0 ? `[${gate.map_index}]` : ""}`;
  return element("a", { href: taskAddress(gate) }, name);
}

function choose(job) {
  state.chosen = job;
  timeline?.redraw(false);
  const detail = at("detail");
  detail.hidden = !job;
  if (!job) return;
  const gates = gatesOf(job);
  const facts = [
    ["Started", moment(job.start)],
    ["Duration", duration(lasted(job))],
    ["Size", size(sizeOf(job))],
    ["Job id", job.id],
  ].filter(([, value]) => value);
  detail.replaceChildren(
    element("h3", {}, job.item || "unnamed"),
    element("p", {}, `${job.operation || "Job"} `, outcomeOf(job.outcome, job.status)),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    job.errors.length ? element("ul", {}, ...errorList(job.errors)) : "",
    gates.length ? element("p", {}, "Gated on by ", ...gates.flatMap((gate, place) => [place ? ", " : "", gateLink(gate), ` (${gate.state ?? "none"})`])) : "",
    // Where the portal of a cloud is not known, there is none to link to.
    state.answer.jobs_portal ? element("p", {}, element("a", { href: state.answer.jobs_portal + encodeURIComponent(job.id), target: "_blank", rel: "noopener noreferrer" }, "Job in Azure")) : "",
  );
  if (state.item !== job.key && [...at("item").options].some((option) => option.value === job.key)) {
    state.item = at("item").value = job.key;
    state.picked = true;
    drawHistory();
  }
}

// Tables

// On a phone a row is a card, and each cell says itself what it holds.
function cell(name, properties, ...children) {
  const held = children.filter((child) => child);
  const made = element("td", properties, held.length ? element("div", {}, ...held) : null);
  made.dataset.name = name;
  return made;
}

function tellTable() {
  const list = jobs();
  at("rows").replaceChildren(
    ...list.slice(0, state.rows).map((job) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, job.item || "unnamed"),
        cell("Outcome", {}, outcomeOf(job.outcome, job.status), ...job.errors.slice(0, 1).map((error) => element("div", { className: "quiet small" }, error.title || error.message))),
        cell("Operation", {}, job.operation),
        cell("Started", {}, moment(job.start)),
        cell("Duration", { className: "number" }, duration(lasted(job))),
        cell("Size", { className: "number" }, size(sizeOf(job))),
        cell("Gated on by", {}, ...gatesOf(job).flatMap((gate, place) => [place ? ", " : "", gateLink(gate)])),
      ),
    ),
  );
  if (state.form === "table") {
    at("more").hidden = list.length <= state.rows;
    at("more").textContent = `Show ${Math.min(PAGE, list.length - state.rows)} more of ${list.length}`;
  }
}

function tellGates() {
  const { gates, gatesCut, gateRows } = state;
  at("gates").replaceChildren(
    ...gates.slice(0, gateRows).map((gate) => {
      const job = state.answer?.jobs?.find((each) => each.id.toLowerCase() === gate.job);
      const outcome = job?.outcome ?? gate.outcome;
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, gateLink(gate)),
        cell("Run", {}, gate.run_id),
        cell("State", {}, gate.state ?? "none"),
        cell("Item", {}, job?.item || gate.item || ""),
        cell("Job", {}, outcome ? outcomeOf(outcome, job?.status) : `in ${gate.vault}`),
      );
    }),
  );
  at("gates").closest(".scroll").hidden = !gates.length;
  at("gates-none").hidden = gates.length > 0;
  at("gates-none").textContent = "No task of a DAG that you may read has waited for a job this week.";
  at("more-gates").hidden = gates.length <= gateRows;
  at("more-gates").textContent = `Show ${Math.min(PAGE, gates.length - gateRows)} more of ${gatesCut ? "the newest " : ""}${gates.length}`;
}

// One item over time

function drawHistory() {
  for (const plot of small.splice(0)) plot.destroy();
  const mine = state.answer.jobs.filter((job) => job.key === state.item && job.start).sort((one, other) => one.start - other.start);
  const drawn = [
    draw("durations", mine, lasted, duration, SECONDS),
    draw("sizes", mine, sizeOf, size, BYTES),
  ];
  at("history-told").textContent =
    mine.length && drawn[1] < mine.length
      ? `Azure's list leaves sizes out. They come from the tasks that waited for a job: ${drawn[1] || "none"} of these ${mine.length}.`
      : "";
}

// Steps of an axis that read as round numbers.
const SECONDS = [1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, DAY, 2 * DAY];
const BYTES = Array.from({ length: 50 }, (_, power) => 2 ** power);

function draw(id, mine, value, words, incrs) {
  const box = at(id);
  const known = mine.filter((job) => value(job) !== null);
  box.replaceChildren();
  if (!known.length) {
    box.append(element("p", { className: "quiet empty" }, "None is known."));
    box.removeAttribute("role");
    box.removeAttribute("aria-label");
    return 0;
  }
  box.role = "img";
  box.ariaLabel = `${box.parentElement.textContent.trim()} of ${known.map((job) => `${moment(job.start)}: ${words(value(job))}, ${job.outcome}`).slice(-12).join("; ")}`;
  small.push(
    new uPlot(
      {
        width: box.clientWidth, height: 190, padding: [12, 24, 0, 4], legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: true, range: () => [state.answer.now - 7 * DAY, state.answer.now + 0.15 * DAY] }, y: { range: (_, __, high) => [0, (high || 1) * 1.15] } },
        series: [{}, { stroke: colour("quiet"), width: 1, points: { show: false } }],
        axes: [timeAxis(), {
          stroke: colour("quiet"), font: axisFont, size: 64, space: 34, incrs,
          grid: { stroke: colour("line"), width: 0.5 }, ticks: { show: false },
          values: (_, splits) => splits.map((each) => (each ? words(each) : "0")),
        }],
        hooks: {
          draw: [(plot) => {
            plot.ctx.save();
            for (const job of known) {
              const [x, y] = [plot.valToPos(job.start, "x", true), plot.valToPos(value(job), "y", true)];
              drawMark(plot.ctx, job.outcome, x, y, 4.5 * devicePixelRatio, colour(job.outcome));
            }
            plot.ctx.restore();
          }],
        },
      },
      [known.map((job) => job.start), known.map(value)],
      box,
    ),
  );
  return known.length;
}

function tellItems() {
  const { answer } = state;
  const items = byItem(answer.jobs);
  if (!items.some((item) => item.key === state.item)) state.picked = false;
  // Until a person picks one: one that tells the most.
  const told = ({ jobs: mine }) => mine.filter(sizeOf).length * answer.jobs.length + mine.length;
  if (!state.picked) state.item = items.reduce((best, item) => (best && told(best) >= told(item) ? best : item), null)?.key ?? "";
  items.sort((one, other) => one.name.localeCompare(other.name));
  const twice = new Set(items.map((item) => item.name).filter((name, place, names) => names.indexOf(name) !== place));
  at("item").replaceChildren(
    ...items.map((item) =>
      element("option", { value: item.key, selected: item.key === state.item }, twice.has(item.name) ? item.key.split("|").slice(1).join(" ") : item.name),
    ),
  );
}

// All of it

function tellJobs() {
  tellLegend();
  tellTable();
  if (state.form === "plot") drawTimeline();
}

function tellAll() {
  tellState();
  const { answer } = state;
  if (!answer?.jobs) return;
  if (state.chosen) state.chosen = answer.jobs.find((job) => job.id === state.chosen.id) ?? null;
  tellLate();
  tellItems();
  tellJobs();
  tellGates();
  drawHistory();
}

// Without a vault, what Airflow itself knows is left.
function showVault(visible) {
  for (const id of ["late-part", "jobs", "history-part"]) show(id, visible);
  for (const each of document.querySelectorAll(".switch")) each.hidden = !visible;
}

let timer = 0;
let turn = 0;

async function look() {
  clearTimeout(timer);
  const mine = ++turn;
  const conn = at("vault").value;
  let again = 60;
  try {
    const answer = await ask(`api/connections/${encodeURIComponent(conn)}/vault?within=${state.within}`);
    if (mine !== turn) return; // another vault was chosen meanwhile
    answer.heard = Date.now() / 1000;
    complain(answer.fault ? `${answer.jobs ? "Azure could not be asked: " : ""}${answer.fault}` : "");
    showVault(Boolean(answer.jobs));
    const link = at("portal");
    link.hidden = !answer.portal;
    if (answer.portal) link.href = answer.portal;
    if (answer.jobs) {
      state.answer = answer;
      tellAll();
    } else at("told").textContent = "";
    if (answer.reading) again = answer.read_at === null ? 1 : 3;
    else if (answer.next_at > answer.now) again = Math.min(60, answer.next_at - answer.now + 1);
  } catch (error) {
    if (mine !== turn) return;
    complain(error.message);
    if (error instanceof Refused) return;
  }
  timer = setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", look, { once: true }) : look()), again * 1000);
}

async function lookAtGates() {
  try {
    const { gates, cut } = await ask("api/gates");
    state.gates = gates;
    state.gatesCut = cut;
  } catch (error) {
    at("gates-none").textContent = error.message;
    at("gates").closest(".scroll").hidden = true;
    return;
  }
  state.byJob = Map.groupBy ? Map.groupBy(state.gates, (gate) => gate.job) : grouped(state.gates);
  tellGates();
  if (state.answer?.jobs) tellAll();
}

function grouped(gates) {
  const found = new Map();
  for (const gate of gates) found.set(gate.job, [...(found.get(gate.job) ?? []), gate]);
  return found;
}

async function begin() {
  lookAtGates();
  try {
    state.connections = (await ask("api/connections")).connections;
  } catch (error) {
    complain(error.message);
    return;
  }
  if (!state.connections.length) {
    at("told").textContent = "There is no connection of type azure_backup that you may read, so no vault is shown.";
    showVault(false);
    return;
  }
  const wanted = new URLSearchParams(location.search).get("connection");
  at("vault").replaceChildren(
    ...state.connections.map((each) =>
      element("option", { value: each.id, selected: each.id === wanted }, each.vault ? `${each.vault} (${each.id})` : each.id),
    ),
  );
  show("choice", state.connections.length > 1);
  look();
}

at("vault").addEventListener("change", () => {
  timeline?.destroy();
  for (const plot of small.splice(0)) plot.destroy();
  timeline = zoom = null;
  shown = [];
  choose(null);
  state.answer = null;
  state.picked = false;
  for (const id of ["timeline", "rows", "late", "durations", "sizes", "legend", "item"]) at(id).replaceChildren();
  at("told").textContent = "Reading the jobs from Azure…";
  look();
});
at("within").addEventListener("change", (event) => {
  state.within = Number(event.target.value);
  look();
});
at("item").addEventListener("change", (event) => {
  state.item = event.target.value;
  state.picked = true;
  drawHistory();
});
for (const input of document.querySelectorAll("input[name=span]")) {
  input.addEventListener("change", () => {
    state.days = Number(input.value);
    zoom = null;
    if (state.answer) tellJobs();
  });
}
for (const input of document.querySelectorAll("input[name=form]")) {
  input.addEventListener("change", () => {
    state.form = input.value;
    show("plot-part", state.form === "plot");
    show("table-part", state.form === "table");
    if (state.answer) tellJobs();
  });
}
at("timeline").addEventListener("keydown", walk);
at("more").addEventListener("click", () => {
  if (state.form === "plot") state.items = Infinity;
  else state.rows += PAGE;
  tellJobs();
});
at("more-late").addEventListener("click", () => {
  state.late = Infinity;
  tellLate();
});
at("more-gates").addEventListener("click", () => {
  state.gateRows += PAGE;
  tellGates();
});

let width = 0;
new ResizeObserver(() => {
  if (Math.abs(document.body.clientWidth - width) < 2) return;
  width = document.body.clientWidth;
  if (state.answer) {
    tellJobs();
    drawHistory();
  }
}).observe(document.body);

followTheme(() => {
  if (state.answer) {
    tellJobs();
    drawHistory();
  }
});
setInterval(tellState, 10000);
begin();
