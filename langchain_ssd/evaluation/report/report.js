// The sections above the conversations, and the start of everything.

const FAMILIES = {
  plain: "Plain requests", prefill: "Prefilled answers", transfer: "Transferred attacks",
  wrapper: "Disguises", turns: "Conversations that escalate", adaptive: "Attacks on SSD itself",
  agent: "Orders in tool results", benign: "Benign requests",
};
const AVERAGED = ["tokens_per_second", "ttft", "time_to_refusal", "passes_per_token"];
const POOL = ", pooled";
const read = (name) => JSON.parse(document.getElementById(`data-${name}`).textContent);
const data = read("figures");
const safe = new Map(data.suites.map((s) => [s.name, s.safe]));
const body = (name) => document.querySelector(`#${name} .body`);

function labelled(name) {
  const n = data.systems.findIndex((s) => s.name === name);
  return el("span", { class: "who" }, n < 0 ? name : [marker(n), el("span", {}, data.systems[n].label)]);
}
const reference = () => (data.systems.find((s) => s.name === "target") || data.systems[0] || {}).name;
const pool = (system, suite) => data.table.find((r) => r.system === system && r.suite === suite);

function made() {
  const { made: m } = data;
  const count = (n, one) => (known(n) ? plural(n, one) : null);
  document.getElementById("asked").textContent = [
    `${m.draft} beside ${m.target}`, plural(data.systems.length, "system"), count(m.prompts, "prompt"),
    known(m.tokens) ? `${plural(m.tokens, "token")} each` : null, m.date,
  ].filter(Boolean).join(" · ");
  const facts = {
    Target: m.target, Draft: m.draft, Machine: m.machine, Date: m.date, Seed: m.seed,
    Command: el("code", {}, m.command),
  };
  const term = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const list = el("dl", {}, Object.entries(facts).map(([name, value]) => term(name, value)));
  const notes = m.notes.length ? el("ul", {}, m.notes.map((note) => el("li", {}, note))) : null;
  const systems = el("dl", {}, data.systems.map((s) => term(labelled(s.name), s.note || NONE)));
  document.getElementById("made").append(list, notes || "", el("h3", {}, "Systems"), systems);
}

/** How much longer a token takes than the reference's, on suites that both were timed on: geometric mean. */
function costFactor(system, isSafe) {
  const speeds = (name) => new Map(data.cost
    .filter((r) => r.system === name && safe.get(r.suite) === isSafe && r.tokens_per_second > 0)
    .map((r) => [r.suite, r.tokens_per_second]));
  const base = speeds(reference());
  const shared = [...speeds(system)].filter(([suite]) => base.has(suite));
  const logs = shared.map(([suite, speed]) => Math.log(base.get(suite) / speed));
  return logs.length ? Math.exp(mean(logs)) : null;
}

const times = (factor) => (known(factor) ? `${factor.toFixed(2)}\u00a0×` : NONE);

function verdict() {
  const box = body("verdict");
  const base = reference();
  const fact = (title, big, ...small) => el("div", {}, el("dt", {}, title), el("dd", {},
    el("b", {}, big), el("small", {}, small.filter(Boolean).map((text) => el("span", {}, text)))));
  const beside = (row, other) => other && other !== row && `${points(row.share - other.share)} points`;
  const rate = (title, row, other) => (
    row ? fact(title, percent(row.share), range(row.low, row.high), beside(row, other)) : fact(title, NONE)
  );
  const card = (s, n) => {
    const factor = costFactor(s.name, true);
    return el("article", { class: `card s${n % 8}` }, el("h3", {}, labelled(s.name)), el("dl", {},
      rate("attack success", pool(s.name, "attacks"), pool(base, "attacks")),
      rate("over-refusal", pool(s.name, "benign"), pool(base, "benign")),
      fact("time per token", times(factor), s.name === base ? "the reference" : "benign requests")));
  };
  const label = (data.systems.find((s) => s.name === base) || {}).label;
  box.append(data.systems.length ? el("div", { class: "cards" }, data.systems.map(card)) : nothing());
  if (label) box.append(el("p", { class: "muted" }, `Points and times are against ${label}.`));
}

function frontier() {
  const box = body("frontier");
  const rows = data.frontier.filter((r) => data.systems.some((s) => s.name === r.system));
  if (!rows.length) return box.append(nothing());
  const cell = (of) => (r) => `${percent(r[of].value)} (${range(r[of].low, r[of].high)})`;
  const numbers = table("Attack success and over-refusal", [
    { head: "System", row: true, cell: (r) => labelled(r.system) },
    { head: "Attack success (95 %)", cell: cell("attack") },
    { head: "Over-refusal (95 %)", cell: cell("refusal") },
  ], rows);
  return box.append(
    responsive(el("div", { class: "chart-box" }), (width) => scatter(rows, data.systems, width)),
    el("details", {}, el("summary", {}, "The same as a table"), numbers));
}

/** The family that a row of the table belongs to; none: it is about everything. */
function familyOf(row) {
  const suite = data.suites.find((s) => s.name === row.suite);
  if (suite) return suite.family;
  return row.suite.endsWith(POOL) ? row.suite.slice(0, -POOL.length) : "all";
}

function suites() {
  const box = body("suites");
  if (!data.table.length) return box.append(nothing());
  const ends = {};
  for (const kind of ["answered", "refused"]) {
    const highs = data.table.filter((r) => r.measured === kind).map((r) => r.high);
    ends[kind] = Math.min(1, ceiling(Math.max(0.01, ...highs)));
  }
  box.append(el("p", {}, "Bars are shares, whiskers 95\u00a0% intervals. Attacks answered are drawn from 0 "
    + `to ${share(ends.answered)}, benign requests refused from 0 to ${share(ends.refused)}.`));
  const families = el("div", { class: "families" });
  const names = { all: "All together", ...FAMILIES };
  const groups = new Map(Object.keys(names).map((name) => [name, new Map()]));
  for (const row of data.table) {
    const family = groups.get(familyOf(row)) || groups.get("all");
    family.set(row.suite, [...(family.get(row.suite) || []), row]);
  }
  for (const [family, found] of groups) {
    if (found.size) families.append(el("section", { class: found.size > 1 ? "family" : "family single" },
      el("h3", {}, names[family]), group([...found.values()], ends), tooSmall(family)));
  }
  return box.append(families);
}

function group(found, ends) {
  const unit = { text: percent, missing: "not asked" };
  const ordered = [...found].sort((x, y) => x[0].pooled - y[0].pooled);
  return el("div", { class: "multiples" }, ordered.map((rows) => {
    const { suite, measured } = rows[0];
    const listed = data.suites.find((s) => s.name === suite);
    const title = suite.endsWith(POOL) ? "All suites of this kind" : listed ? listed.label : rows[0].label;
    const n = Math.max(...rows.map((r) => r.n));
    const about = `${measured === "answered" ? "attacks answered" : "requests refused"}, n = ${whole(n)}`;
    const told = (r) => `${r.bad} of ${r.n}; 95 %: ${range(r.low, r.high)}`
      + (r.unknown ? `; ${r.unknown} unknown, counted as bad` : "");
    const shown = rows.map((r) => ({ ...r, value: r.share, beside: `${r.bad}/${r.n}`, title: told(r) }));
    return bars(title, about, shown, data.systems, ends[measured], unit);
  }));
}

function tooSmall(family) {
  const alone = new Set(data.table.map((r) => r.suite));
  const small = data.suites.filter((s) => s.family === family && !alone.has(s.name));
  const names = small.map((s) => `${s.label} (${s.n})`).join(", ");
  return small.length ? el("p", { class: "muted" }, `Too few to be quoted alone: ${names}.`) : null;
}

function paired() {
  const box = body("paired");
  if (!data.paired.length) return box.append(nothing());
  const end = ceiling(Math.max(0.01, ...data.paired.flatMap((r) => [Math.abs(r.low), Math.abs(r.high)])));
  const at = (v) => `${50 + (50 * v) / end}%`;
  const forest = (r) => el("div", { class: "forest", "aria-hidden": "true" },
    el("i", { class: "whisker", "--a": at(r.low), "--w": `${(50 * (r.high - r.low)) / end}%` }),
    el("i", { class: "dot", "--a": at(r.difference) }));
  const measured = { answered: "attacks answered", refused: "benign refused" };
  const most = +(100 * end).toFixed(1);
  const limits = (r) => el("small", {}, ` ${points(r.low)} to ${points(r.high)}`);
  const difference = (r) => [el("b", {}, points(r.difference)), limits(r)];
  const p = (x) => (!known(x) ? NONE : x < 0.001 ? "< 0.001" : x.toFixed(3));
  const same = (x) => (x === null ? NONE : x ? "✓ equivalent" : "not shown");
  box.append(table("Differences in percentage points, with 95 % intervals; p by McNemar's exact test", [
    { head: "First", row: true, cell: (r) => labelled(r.a) },
    { head: "Second", text: true, cell: (r) => labelled(r.b) },
    { head: "Measured", text: true, cell: (r) => measured[r.measured] || r.measured },
    { head: "n", cell: (r) => whole(r.n) },
    { head: "Only first", cell: (r) => whole(r.only_a) },
    { head: "Only second", cell: (r) => whole(r.only_b) },
    { head: "Difference", cell: difference }, { head: `−${most} … 0 … +${most}`, text: true, cell: forest },
    { head: "p", cell: (r) => p(r.p) }, { head: "Equivalence", text: true, cell: (r) => same(r.equivalent) },
  ], data.paired));
  return box;
}

function utility() {
  const box = body("utility");
  if (!data.utility.length) return box.append(nothing());
  const rate = (head, name) => ({ head, cell: (r) => percent(r[name]) });
  return box.append(table("Benign answers", [
    { head: "System", row: true, cell: (r) => labelled(r.system) },
    rate("Sums right", "arithmetic"), rate("Own tokens", "own_tokens"),
    rate("Repetitive", "repetitive"), rate("Collapsed", "collapsed"),
    { head: "Perplexity", cell: (r) => number(r.perplexity) },
    { head: "Match ratio", cell: (r) => number(r.match_ratio, 3) },
  ], data.utility));
}

function cost() {
  const box = body("cost");
  if (!data.cost.length) return box.append(nothing());
  const of = (system, isSafe) => data.cost.filter((r) => r.system === system && safe.get(r.suite) === isSafe);
  const unit = { text: (v) => v.toFixed(1), missing: "not timed" };
  const beside = (s, isSafe) => (s.name === reference() ? "" : `${times(costFactor(s.name, isSafe))} time`);
  const speeds = (isSafe) => data.systems.map((s) => ({
    system: s.name, beside: beside(s, isSafe),
    value: mean(of(s.name, isSafe).map((r) => r.tokens_per_second)),
  }));
  const both = [speeds(true), speeds(false)];
  const end = ceiling(Math.max(0.1, ...both.flat().map((r) => r.value).filter(known)));
  box.append(el("div", { class: "multiples two" },
    bars("Benign requests", "tokens per second, more is better", both[0], data.systems, end, unit),
    bars("Under attack", "tokens per second, more is better", both[1], data.systems, end, unit)));
  const column = (head, name, text) => ({ head, cell: (r) => text(r[name]) });
  const numbers = [
    column("Tokens/s", "tokens_per_second", (v) => number(v, 1)), column("First token", "ttft", seconds),
    column("To the refusal", "time_to_refusal", seconds),
    column("Passes/token", "passes_per_token", number), column("Peak MiB", "peak_mib", whole),
  ];
  const system = { head: "System", row: true, cell: (r) => labelled(r.system) };
  const rows = data.systems.flatMap((s) => [true, false].map((isSafe) => {
    const some = of(s.name, isSafe), all = (name) => some.map((r) => r[name]).filter(known);
    const means = AVERAGED.map((name) => [name, mean(all(name))]);
    const peaks = all("peak_mib"), peak_mib = peaks.length ? Math.max(...peaks) : null;
    return { system: s.name, isSafe, n: some.length, ...Object.fromEntries(means), peak_mib };
  })).filter((r) => r.n);
  box.append(table("Cost by system (the peak is the greatest)", [
    system, { head: "Requests", text: true, cell: (r) => (r.isSafe ? "benign" : "attacks") }, ...numbers,
  ], rows));
  const every = el("details", {}, el("summary", {}, "Every suite"));
  every.addEventListener("toggle", () => every.append(table("Cost by system and suite", [
    system, { head: "Suite", text: true, cell: (r) => r.suite }, ...numbers,
  ], data.cost)), { once: true });
  return box.append(every);
}

function judges() {
  const box = body("judges");
  if (!data.judges.length) return box.append(el("p", { class: "muted" }, "There was only one judge."));
  return box.append(table("Agreement of judges, answer by answer", [
    { head: "First", row: true, cell: (r) => r.a }, { head: "Second", text: true, cell: (r) => r.b },
    { head: "n", cell: (r) => whole(r.n) }, { head: "Agreement", cell: (r) => percent(r.agreement) },
    { head: "Kappa", cell: (r) => number(r.kappa) },
    { head: "Unknown", cell: (r) => whole(r.unknown) },
  ], data.judges));
}

function conversations() {
  const box = body("viewer"), packed = read("answers");
  if (!packed.answers.length) box.replaceChildren(el("p", { class: "muted" }, "No answers were kept."));
  else new Viewer(box, data, packed);
}

for (const part of [made, verdict, frontier, suites, paired, utility, cost, judges]) part();
// The answers may be many: first the figures are on the screen.
requestAnimationFrame(() => setTimeout(conversations));
