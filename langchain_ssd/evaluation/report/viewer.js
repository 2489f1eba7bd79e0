// The conversations: a filtered list, and one answer token by token.

const PER_PAGE = 50;
const VERDICTS = {
  refusal: "refuses", turned: "turns away", compliance: "complies", unclear: "unclear", empty: "empty",
  unknown: "verdict unknown",
};
const WARNING = "Some requests are attacks, and some answers to them are harmful, wrong or offensive. "
  + "They are here to be examined, not to be followed.";
const ENDS = {
  stop: "finished", length: "cut off at its limit", refusal: "stopped by the monitor", error: "failed",
};
const OUTCOMES = {
  "": ["Any", () => true],
  bad: ["Bad only", (a) => isBad(a)],
  attack: ["Attack answered", (a) => !a.safe && a.refused === false],
  benign: ["Benign request refused", (a) => a.safe && a.refused === true],
  unknown: ["Verdict unknown", (a) => a.refused === null],
  stopped: ["Stopped by the monitor", (a) => a.reason === "refusal"],
};

const isBad = (a) => a.refused === null || (a.safe ? a.refused : !a.refused);
function outcome(a) {
  if (a.refused === null) return "verdict unknown";
  return `${a.safe ? "benign" : "attack"} ${a.refused ? "refused" : "answered"}`;
}
const sign = (a) => (isBad(a) ? "✗" : "✓");
const kind = (a) => (isBad(a) ? "bad" : "good");
const badge = (a) => el("span", { class: `badge ${kind(a)}` }, `${sign(a)} ${outcome(a)}`);
const message = (of, role, text) => (
  el("div", { class: `message ${of}` }, el("span", { class: "role" }, role), text)
);
const linkTo = (a) => `#answer=${encodeURIComponent(a.system)}|${encodeURIComponent(a.key)}`;
const asked = (a) => (a.request.length ? a.request[a.request.length - 1].content : "");

/** Everything about the conversations; `data` is the page's, `packed` the answers beside their cases. */
class Viewer {
  constructor(box, data, packed) {
    this.box = box;
    this.systems = data.systems;
    this.answers = packed.answers.map((answer) => ({ ...packed.cases[answer.case], ...answer }));
    this.byName = new Map(this.answers.map((a) => [`${a.system}|${a.key}`, a]));
    this.byKey = new Map(this.answers.map((a) => [a.key, []]));
    for (const a of this.answers) this.byKey.get(a.key).push(a);
    this.texts = new WeakMap();
    this.showTexts = false;
    this.found = this.answers;
    this.page = 0;
    this.open = null;
    this.build(data.suites);
    this.filter();
    this.follow();
    window.addEventListener("hashchange", () => this.follow());
  }

  label(name) {
    const n = this.systems.findIndex((s) => s.name === name);
    return [marker(Math.max(0, n)), el("span", {}, n < 0 ? name : this.systems[n].label)];
  }

  build(suites) {
    const choice = (name, label, options) => {
      const made = options.map(([value, text]) => el("option", { value }, text));
      this[name] = el("select", { onchange: () => this.filter() }, made);
      return el("label", {}, el("span", {}, label), this[name]);
    };
    let timer = 0;
    const later = () => { clearTimeout(timer); timer = setTimeout(() => this.filter(), 150); };
    const hint = "request, answer or key";
    this.search = el("input", { type: "search", placeholder: hint, autocomplete: "off", oninput: later });
    this.toggle = el("input", { type: "checkbox", role: "switch", onchange: () => this.switchTexts() });
    this.list = el("ol", { class: "answers" });
    this.status = el("p", { class: "muted count", role: "status" });
    this.pager = el("div", { class: "pager" });
    this.detail = el("article", { class: "detail", tabindex: "-1", "aria-label": "The chosen answer" });
    this.detail.append(el("p", { class: "muted empty" }, "Choose an answer to see it token by token."));
    this.box.replaceChildren(
      el("div", { class: "warning" },
        el("p", {}, WARNING),
        el("label", { class: "switch" }, this.toggle, el("span", {}, "Show text"))),
      el("div", { class: "filters", role: "search" },
        choice("suite", "Suite", [["", "All suites"], ...suites.map((s) => [s.name, s.label])]),
        choice("system", "System", [["", "All systems"], ...this.systems.map((s) => [s.name, s.label])]),
        choice("outcome", "Outcome", Object.entries(OUTCOMES).map(([value, [text]]) => [value, text])),
        el("label", { class: "grow" }, el("span", {}, "Search"), this.search)),
      el("div", { class: "panes" },
        el("div", { class: "found" }, this.status, this.list, this.pager), this.detail));
  }

  /** All that is searched of an answer, in small letters, made when first needed. */
  haystack(a) {
    if (!this.texts.has(a)) {
      const said = a.trace ? a.trace.texts.join("") : "";
      const all = [a.key, a.prefill, a.shown, said, ...a.request.map((m) => m.content)];
      this.texts.set(a, all.join("\n").toLowerCase());
    }
    return this.texts.get(a);
  }

  filter() {
    const words = this.search.value.trim().toLowerCase(), holds = OUTCOMES[this.outcome.value][1];
    const suite = this.suite.value, system = this.system.value;
    this.found = this.answers.filter((a) => (
      (!suite || a.suite === suite) && (!system || a.system === system)
      && holds(a) && (!words || this.haystack(a).includes(words))
    ));
    this.turn(0);
  }

  turn(page) {
    this.page = page;
    const first = page * PER_PAGE, some = this.found.slice(first, first + PER_PAGE);
    const total = plural(this.found.length, "answer");
    this.status.textContent = !this.found.length ? "No answer matches."
      : this.found.length > PER_PAGE ? `${first + 1}–${first + some.length} of ${total}` : total;
    this.list.replaceChildren(...some.map((a) => this.item(a)));
    this.list.scrollTop = 0;
    const step = (text, to, possible) => (
      el("button", { type: "button", disabled: !possible, onclick: () => this.turn(to) }, text)
    );
    const many = this.found.length > PER_PAGE;
    this.pager.replaceChildren(...(many ? [
      step("← Previous", page - 1, page > 0), step("Next →", page + 1, first + PER_PAGE < this.found.length),
    ] : []));
  }

  item(a) {
    const line = this.showTexts ? `${a.suite} · ${asked(a).slice(0, 160) || "(empty)"}` : a.key;
    const choose = () => { location.hash = linkTo(a); };
    const press = { type: "button", "aria-current": a === this.open ? "true" : null, onclick: choose };
    const who = el("span", { class: "who" }, this.label(a.system));
    const button = el("button", press, who, badge(a), el("span", { class: "line" }, line));
    button.answer = a;
    return el("li", {}, button);
  }

  /** Open what the address asks for. */
  follow() {
    const wanted = /^#answer=([^|]*)(?:\||%7C)(.*)$/i.exec(location.hash);
    if (!wanted) return;
    let name = null;
    try {
      name = `${decodeURIComponent(wanted[1])}|${decodeURIComponent(wanted[2])}`;
    } catch {
      name = null; // not one of our links
    }
    this.show(this.byName.get(name) || null);
    const { top } = this.detail.getBoundingClientRect();
    if (top < 0 || top > window.innerHeight * 0.6) this.detail.scrollIntoView({ block: "start" });
    this.detail.focus({ preventScroll: true });
  }

  switchTexts() {
    this.showTexts = this.toggle.checked;
    const { scrollTop } = this.list;
    this.turn(this.page);
    this.list.scrollTop = scrollTop;
    if (this.open) this.show(this.open);
  }

  /** A text, or that there is one. */
  text(text, name = "div") {
    if (!text) return el(name, { class: "text hidden" }, "(nothing)");
    if (this.showTexts) return el(name, { class: "text" }, text);
    return el(name, { class: "text hidden" }, `${plural(text.length, "character")}, hidden`);
  }

  show(a) {
    this.open = a;
    for (const button of this.list.querySelectorAll("button")) {
      if (button.answer === a) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    if (!a) {
      this.detail.replaceChildren(el("p", { class: "muted empty" }, "There is no such answer on this page."));
      return;
    }
    const button = (of, text, onclick) => el("button", { type: "button", class: of, onclick }, text);
    const found = this.box.querySelector(".found");
    const back = button("back", "↑ Back to the list", () => found.scrollIntoView());
    const reveal = button("reveal", "Show text", () => this.toggle.click());
    const facts = [VERDICTS[a.verdict] || a.verdict, ENDS[a.reason] || a.reason];
    if (known(a.match_ratio)) facts.push(`match ratio ${number(a.match_ratio)}`);
    this.detail.replaceChildren(back, this.showTexts ? "" : reveal,
      el("h3", {}, this.label(a.system)),
      el("p", { class: "facts" }, badge(a), el("span", { class: "muted" }, facts.join(" · "))),
      el("p", { class: "facts muted" }, el("a", { href: linkTo(a) }, a.key)),
      this.others(a), this.conversation(a), this.answer(a));
  }

  /** The same case, answered by every system. */
  others(a) {
    const given = this.byKey.get(a.key) || [];
    const order = (one) => this.systems.findIndex((s) => s.name === one.system);
    const link = (one) => {
      const current = one === a ? "true" : null;
      const props = { href: linkTo(one), class: kind(one), "aria-current": current, title: outcome(one) };
      return el("a", props, this.label(one.system), el("b", {}, sign(one)));
    };
    const links = [...given].sort((x, y) => order(x) - order(y)).map(link);
    return el("nav", { class: "others", "aria-label": "Other systems' answers to this" }, links);
  }

  conversation(a) {
    const messages = a.request.map((m) => message("request", m.role, this.text(m.content)));
    if (a.prefill) messages.push(message("prefill", "put into the model's mouth", this.text(a.prefill)));
    return el("div", { class: "conversation" }, messages);
  }

  answer(a) {
    const replaced = a.reason === "refusal";
    const read = message("assistant", replaced ? "shown instead" : "answer", this.text(a.shown));
    if (!a.trace || !a.trace.texts.length) {
      const early = replaced && el("p", { class: "muted" }, "Refused before the first token.");
      return el("div", { class: "answer" }, read, early);
    }
    const tokens = new Tokens(a, this.showTexts);
    const decoded = message("assistant", replaced ? "decoded, then withheld" : "answer", tokens.node);
    return el("div", { class: "answer" },
      replaced && read, decoded, legend(a), tokens.readout, tokens.chart, afterwards(a));
  }
}
