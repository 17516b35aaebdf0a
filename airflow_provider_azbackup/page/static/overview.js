// The overview: how the last night went in all vaults, what fleet sensors report, and the list of the vaults.
import { ask, count, element, OUTCOMES, outcomeOf, show, taskLink, whenVisible } from "./common.js?v=@version@";
import { byId, compare, DAY, PAGE, state } from "./model.js?v=@version@";
import { card, cell, overdueCards, showGates } from "./tables.js?v=@version@";
import { moment } from "./time.js?v=@version@";
import { verdictParts } from "./verdict.js?v=@version@";

// The vaults that are read when the page opens and at each request for more: reads of jobs are scarce.
const AT_ONCE = 4;
const MORE = 10;
const OLD = 3600; // seconds after which a vault may be read again on request
const MOST_TURNS = 30; // that the server is asked until it has read what is wanted
const CARDS = 8;

const LATE = [["overdue", "overdue_count"], ["running late", "long_count"]];

const vaults = new Map(); // by ARM id
let connections = [];
const listed = new Set(); // the connections whose vaults have been listed
let shown = PAGE;
let late = CARDS;
let toRead = AT_ONCE;
let isFirst = true; // until the user asks for more
let isAskedAgain = false; // for other vaults, which must not wait for this one
let wake = () => {};
let readAt = 0; // when that is allowed by the quota, if it has to wait
let reading = ""; // the ARM id of the vault that is being read

export const vaultAddress = (vault, item = "") =>
  `#${new URLSearchParams({ connection: vault.connection, vault: vault.arm_id, ...(item ? { item } : {}) })}`;

const vaultLink = (vault) => element("a", { href: vaultAddress(vault) }, vault.vault);
export const nameOf = (armId) => armId.split("/").at(-1);

function keep(facts, connection) {
  const known = vaults.get(facts.vault_id);
  // A vault that several connections reach belongs to the first of them, as long as that one can read it.
  if (!known || known.connection === connection || (facts.night_at ?? 0) > (known.night_at ?? 0)) {
    vaults.set(facts.vault_id, { fault: "", tried: false, ...known, ...facts, connection });
  }
}

// Reading from the server

async function listVaults(connection) {
  listed.add(connection.id);
  for (let turn = 0; turn < MOST_TURNS; turn += 1) {
    const answer = await ask(`api/connections/${encodeURIComponent(connection.id)}/vaults`);
    connection.listFault = answer.fault;
    for (const facts of answer.vaults) keep(facts, connection.id);
    if (!answer.reading) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// Vaults of other subscriptions, for which tasks have waited. The first connection may be able to read them.
export function keepVaultsOfTasks() {
  for (const { vault_id, arm_id, vault } of state.gates) {
    if (!vaults.has(vault_id) && connections.length) {
      keep({ vault_id, arm_id, vault, group: "", night: null, night_at: null }, connections[0].id);
    }
  }
}

// The server reads a vault when the quota allows it, so this may take minutes.
async function readVault({ vault_id: id, arm_id: vault, connection, night_at: before }) {
  const path = `api/connections/${encodeURIComponent(connection)}/vault?${new URLSearchParams({ vault, brief: "true" })}`;
  for (let turn = 0; turn < MOST_TURNS; turn += 1) {
    const { fault, night, night_at, now, next_at, reading: goesOn } = await ask(path);
    Object.assign(vaults.get(id), { fault, night, night_at });
    if (night_at !== before || fault) return;
    readAt = goesOn ? 0 : next_at;
    showOverview();
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, 1000 * (goesOn ? 1 : Math.max(1, next_at - now)));
    });
    if (isAskedAgain) return;
  }
}

const isUnread = (vault) => !vault.tried && (!vault.night_at || vault.night_at < Date.now() / 1000 - OLD);

async function readMore() {
  while (!reading && toRead > 0) {
    const [next] = wanted().filter(isUnread).sort((one, other) => (one.night_at ?? 0) - (other.night_at ?? 0));
    if (!next || (isFirst && next.night_at)) break;
    next.tried = true;
    [reading, readAt, isAskedAgain] = [next.vault_id, 0, false];
    toRead -= 1;
    showOverview();
    try {
      await readVault(next);
    } catch (error) {
      vaults.get(reading).fault = error.message;
    }
    reading = "";
  }
  showOverview();
}

export async function readConnections() {
  ({ connections } = await ask("api/connections"));
  for (const { id, vault } of connections) if (vault) keep(vault, id);
  if (connections.length) listed.add(connections[0].id);
  keepVaultsOfTasks();
  showOverview();
  await Promise.all(
    connections.filter(({ id, fault }) => listed.has(id) && !fault).map((connection) => listVaults(connection)),
  );
  return connections;
}

export function startOverview(failed) {
  const again = async () => {
    try {
      await readConnections();
      showOverview();
      readMore();
    } catch (error) {
      failed(error);
    }
    whenVisible(again, 60);
  };
  whenVisible(again, 60);
  readMore();
}

// What is shown

// The vaults that the user looks for.
function wanted() {
  const text = byId("find-vault").value.trim().toLowerCase();
  return [...vaults.values()].filter(({ vault }) => vault.toLowerCase().includes(text));
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const nights = () => [...vaults.values()].filter((vault) => vault.night);

function tile(name, number, className) {
  return element("li", { className }, element("strong", {}, String(number)), element("span", {}, name));
}

function showNight() {
  const read = nights();
  const counts = OUTCOMES.map((outcome) => [outcome, sum(read.map(({ night }) => night.counts[outcome] ?? 0))]);
  byId("night").replaceChildren(
    ...counts.map(([outcome, number]) => tile(outcomeOf(outcome), number, number ? outcome : "quiet")),
    ...LATE.map(([name, number]) => [name, sum(read.map(({ night }) => night[number]))]).map(([name, number]) =>
      tile(name, number, number ? "overdue" : "quiet")),
  );
  const oldest = Math.min(...read.map((vault) => vault.night_at));
  const left = wanted().filter(isUnread).length;
  byId("night-note").textContent = [
    `The last backup of each item, in ${read.length} of ${count(vaults.size, "vault")}`,
    read.length ? `the oldest list was read at ${moment(oldest)}` : "",
    reading ? `reading ${vaults.get(reading).vault}${readAt ? `, which Azure's quota allows at ${moment(readAt).slice(11)}` : ""}…` : "",
  ].filter(Boolean).join(" · ");
  const button = byId("read-more");
  button.hidden = left === 0 || Boolean(reading && !readAt);
  button.textContent = `Read ${count(Math.min(left, MORE), "more vault")}`;
}

function showVerdicts() {
  show("verdicts-part", state.verdicts.length > 0);
  byId("verdicts").replaceChildren(...state.verdicts.map(verdictCard));
}

function verdictCard({ verdict, at, ...task }) {
  return element("li", { className: verdict.missing ? "" : "fine" },
    element("strong", {}, taskLink(task)), ` ${task.state ?? ""}`,
    element("div", { className: "quiet small" }, moment(at)), ...verdictParts(verdict, 5));
}

function showCodes() {
  const groups = new Map();
  for (const vault of nights()) {
    for (const error of vault.night.errors) {
      const group = groups.get(error.code) ?? { code: error.code, message: error.message, count: 0, places: [] };
      group.count += error.count;
      group.places.push(...error.items.map((item) => ({ ...item, vault })));
      groups.set(error.code, group);
    }
  }
  const all = [...groups.values()].sort((one, other) => other.count - one.count);
  show("codes-part", all.length > 0);
  byId("codes").replaceChildren(
    ...all.slice(0, CARDS).map((group) => {
      const places = group.places.slice(0, 5).flatMap(({ item, key, vault }, place) => [
        place ? ", " : "", element("a", { href: vaultAddress(vault, key) }, item || "unnamed"), ` in ${vault.vault}`,
      ]);
      const left = group.count - Math.min(5, group.places.length);
      return card("", `${group.count} × ${group.code || "without an error code"}`, group.message,
        element("div", {}, ...places, left > 0 ? ` and ${left} more` : ""));
    }),
  );
}

function showLate() {
  const all = nights().flatMap((vault) =>
    [...vault.night.overdue, ...vault.night.long].map((each) => ({ ...each, vault, now: vault.night_at })));
  all.sort((one, other) => (one.since ?? 0) - (other.since ?? 0));
  const total = sum(nights().map(({ night }) => night.overdue_count + night.long_count));
  show("all-late-part", total > 0);
  byId("all-late-count").textContent = String(total);
  byId("all-late").replaceChildren(...overdueCards(all.slice(0, late), ({ vault }) => [" in ", vaultLink(vault)]));
  byId("more-all-late").hidden = all.length <= late;
  byId("more-all-late").textContent = `Show ${Math.min(PAGE, all.length - late)} more`;
}

const trouble = ({ night }) => (night ? 1000 * (night.counts.failed ?? 0) + night.overdue_count + night.long_count : -1);

function showVaults() {
  const found = wanted();
  found.sort((one, other) => trouble(other) - trouble(one) || compare(one.vault, other.vault));
  const tasks = new Map();
  const start = Date.now() / 1000 - DAY;
  for (const gate of state.gates) {
    if ((gate.started ?? 0) >= start) tasks.set(gate.vault_id, [...(tasks.get(gate.vault_id) ?? []), gate]);
  }
  byId("vaults-count").textContent = String(vaults.size);
  byId("vaults").replaceChildren(...found.slice(0, shown).map((vault) => vaultRow(vault, tasks.get(vault.vault_id) ?? [])));
  byId("more-vaults").hidden = found.length <= shown;
  byId("more-vaults").textContent = `Show ${Math.min(PAGE, found.length - shown)} more of ${found.length}`;
  const names = new Map();
  for (const { vault } of vaults.values()) names.set(vault, (names.get(vault) ?? 0) + 1);
  // The resource group distinguishes vaults of the same name.
  for (const row of byId("vaults").querySelectorAll("[data-group]")) row.hidden = names.get(row.dataset.vault) < 2;
  byId("connections").replaceChildren(...connections.filter(({ id, fault }) => !fault && !listed.has(id)).map(listButton), ...faults());
}

function vaultRow(vault, tasks) {
  const { night } = vault;
  const group = element("span", { className: "quiet" }, vault.group && ` in ${vault.group}`);
  Object.assign(group.dataset, { group: vault.group, vault: vault.vault });
  const outcomes = (numbers) => OUTCOMES.filter((outcome) => numbers[outcome]).map((outcome) => outcomeOf(outcome, `${numbers[outcome]} ${outcome}`));
  const ofTasks = { __proto__: null };
  for (const { outcome } of tasks) ofTasks[outcome || "running"] = (ofTasks[outcome || "running"] ?? 0) + 1;
  const late = night ? night.overdue_count + night.long_count : 0;
  return element("tr", {},
    element("th", { scope: "row" }, vaultLink(vault), group),
    cell("Last backups", { className: "outcomes" }, ...(night ? outcomes(night.counts) : []),
      night && !Object.keys(night.counts).length ? "none in 24 hours" : null),
    cell("Overdue", { className: "number" }, late ? String(late) : night ? "0" : ""),
    cell("Tasks", { className: "outcomes" }, ...outcomes(ofTasks)),
    cell("Read", {}, vault.night_at ? moment(vault.night_at) : vault.vault_id === reading ? "reading…" : "not yet",
      vault.fault ? element("div", { className: "quiet small" }, vault.fault) : null),
    cell("Connection", {}, vault.connection));
}

function listButton(connection) {
  const button = element("button", { type: "button" }, `List the vaults of ${connection.id}`);
  button.addEventListener("click", async () => {
    try {
      await listVaults(connection);
    } catch (error) {
      connection.listFault = error.message;
    }
    showOverview();
  });
  return button;
}

const faults = () =>
  connections
    .map(({ id, fault, listFault }) => [id, fault || listFault])
    .filter(([, fault]) => fault)
    .map(([id, fault]) => element("p", { className: "fault" }, `${id}: ${fault}`));

export function showOverview() {
  if (byId("overview").hidden) return;
  show("night-part", vaults.size > 0);
  show("vaults-part", connections.length > 0);
  showNight();
  showVerdicts();
  showCodes();
  showLate();
  showVaults();
  showGates();
}

byId("read-more").addEventListener("click", () => {
  toRead = MORE;
  isFirst = false;
  for (const vault of vaults.values()) vault.tried = false;
  isAskedAgain = Boolean(reading);
  wake();
  readMore();
});
byId("more-vaults").addEventListener("click", () => {
  shown += PAGE;
  showVaults();
});
byId("more-all-late").addEventListener("click", () => {
  late += PAGE;
  showLate();
});
byId("find-vault").addEventListener("input", () => {
  shown = PAGE;
  showNight();
  showVaults();
});
