// One answer: its tokens, and what the monitor thought of them.

const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e9, End: 1e9 };
const MOST_TOKENS = 1500; // rendered at once; the rest on demand

/** Neighbours that are alike, together: "110" is "1" from 0 to 2 and "0" from 2 to 3. */
function runs(signs) {
  const found = [];
  [...signs].forEach((sign, i) => {
    const last = found[found.length - 1];
    if (last && last.sign === sign) last.to = i + 1;
    else found.push({ sign, from: i, to: i + 1 });
  });
  return found;
}

/** The monitor's statistic over the tokens, the thresholds, and what it saw; {node, select(token)}. */
function monitorChart(answer, width, choose) {
  const { trace, thresholds } = answer, n = trace.texts.length, left = 58, right = width - 8, top = 16;
  const values = trace.statistic.filter(known), low = values.length ? 166 : 20, height = low + 84;
  const end = ceiling(Math.max(1, ...values, thresholds.safety || 0, thresholds.refuse || 0) * 1.04);
  const X = (i) => left + ((right - left) * i) / n, Y = (v) => low - ((low - top) * v) / end;
  const crosshair = svg("path", { class: "crosshair" });
  const about = "The monitor's statistic over the tokens; the arrow keys read each token's numbers above";
  const node = picture("chart monitor", width, height, about,
    values.length ? statisticLines({ left, right, top, low, end, X, Y }, trace.statistic, thresholds) : null,
    strips(trace, { left, low, n, X }), refusalLine(answer, { top, low, right, X }), crosshair);
  const point = (event) => {
    const at = (event.clientX - node.getBoundingClientRect().left - left) / (right - left);
    choose(Math.max(0, Math.min(n - 1, Math.floor(at * n))));
  };
  node.addEventListener("pointermove", point);
  node.addEventListener("pointerdown", point);
  return { node, select: (i) => crosshair.setAttribute("d", `M${X(i + 0.5)} ${top}V${low + 44}`) };
}

function statisticLines({ left, right, top, low, end, X, Y }, statistic, thresholds) {
  const grid = ticks(end, 4).map((v) => [
    svg("path", { d: `M${left} ${Y(v)}H${right}` }),
    svg("text", { x: left - 6, y: Y(v) + 4, "text-anchor": "end" }, +v.toFixed(2)),
  ]);
  const limit = (name, text, v) => (known(v) ? [
    svg("path", { class: `limit ${name}`, d: `M${left} ${Y(v)}H${right}` }),
    svg("text", { class: "limit", x: left + 4, y: Y(v) - 5 }, `${text} from ${+v.toFixed(2)}`),
  ] : null);
  // Tokens that the monitor did not judge leave a gap.
  let d = "", drawn = false;
  statistic.forEach((v, i) => {
    if (known(v)) d += `${drawn ? "L" : "M"}${X(i + 0.5).toFixed(1)} ${Y(v).toFixed(1)}`;
    drawn = known(v);
  });
  return svg("g", { class: "grid" },
    grid.flat(), svg("path", { class: "axis", d: `M${left} ${top}V${low}H${right}` }),
    limit("safety", "safety mode", thresholds.safety), limit("refuse", "refuses", thresholds.refuse),
    svg("path", { class: "statistic", d }));
}

function strips(trace, { left, low, n, X }) {
  const cell = (run, y, [kind, height]) => {
    const width = Math.max(0.5, X(run.to) - X(run.from) - 0.5);
    return svg("rect", { class: kind, x: X(run.from), y: y + 12 - height, height, width });
  };
  const cells = (signs, y, kinds) => (
    runs(signs.slice(0, n)).filter((run) => kinds[run.sign]).map((run) => cell(run, y, kinds[run.sign]))
  );
  const name = (text, y) => svg("text", { x: left - 6, y: y + 10, "text-anchor": "end" }, text);
  const numbers = [...new Set(ticks(n, 8).map((i) => Math.max(1, Math.round(i))))];
  return svg("g", { class: "grid strips" },
    name("models", low + 8), cells(trace.agree, low + 8, { 1: ["match", 5], 0: ["mismatch", 12] }),
    name("mode", low + 28), cells(trace.mode, low + 28, { u: ["utility", 3], s: ["safety", 12] }),
    numbers.map((i) => svg("text", { x: X(i - 0.5), y: low + 58, "text-anchor": "middle" }, i)),
    svg("text", { class: "title", x: left, y: low + 78 }, "tall: models disagree, safety mode"));
}

function refusalLine(answer, { top, low, right, X }) {
  if (!known(answer.refused_at)) return null;
  const x = Math.min(right, X(answer.refused_at));
  const text = answer.reason === "refusal" ? "refused here" : "would refuse here";
  const turned = x > right - textWidth(text) - 8;
  return svg("g", { class: "refusal" }, svg("path", { d: `M${x} ${top}V${low + 44}` }),
    svg("text", { x: x + (turned ? -5 : 5), y: top - 4, "text-anchor": turned ? "end" : "start" }, text));
}

function legend(a) {
  const token = (kind) => el("span", { class: `tok ${kind}`, "aria-hidden": "true" }, "token");
  const sample = (kind, text) => el("span", {}, token(kind), ` ${text}`);
  const watched = /[01]/.test(a.trace.agree), modes = /[us]/.test(a.trace.mode);
  if (!watched && !modes) return el("p", { class: "legend" }, "Nobody watched these tokens: no monitor ran.");
  return el("p", { class: "legend" },
    watched ? [sample("match", "both models agree"), sample("mismatch", "they disagree (line above)")] : null,
    modes ? [sample("safety", "safety mode (line below)")] : null);
}

/** Why the line may end below the threshold that was crossed. */
function afterwards(a) {
  const last = a.trace.statistic[a.trace.statistic.length - 1], { refuse } = a.thresholds;
  const below = a.reason === "refusal" && known(last) && known(refuse) && last < refuse;
  const text = "The token that crossed the line was never written, so it is not drawn.";
  return below ? el("p", { class: "muted after" }, text) : null;
}

/** The tokens of one answer, its chart, and the numbers of the token that is looked at. */
class Tokens {
  constructor(a, shown) {
    this.a = a;
    this.shown = shown;
    this.at = -1;
    this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    const about = "Tokens; arrow keys read them one by one";
    this.text = el("div", { class: "tokens text", role: "group", "aria-label": about });
    this.node = el("div", { class: "token-box" }, this.text, this.tip);
    const hint = "Point at a token, or move with the arrow keys, for its numbers.";
    this.readout = el("p", { class: "readout", role: "status" }, hint);
    this.chart = responsive(el("div", { class: "chart-box" }), (width) => {
      this.drawn = monitorChart(a, width, (i) => this.select(i));
      return this.drawn.node;
    });
    this.draw(MOST_TOKENS);
    this.listen();
  }

  draw(most) {
    const texts = this.a.trace.texts;
    this.text.replaceChildren(...texts.slice(0, most).map((text, i) => this.token(text, i)));
    this.text.firstChild.tabIndex = 0;
    if (this.a.reason === "refusal") this.text.append(el("span", { class: "stopped" }, "■ refused"));
    if (texts.length > most) {
      const rest = () => this.draw(texts.length);
      const more = `Show ${plural(texts.length - most, "more token")}`;
      this.text.append(el("button", { type: "button", onclick: rest }, more));
    }
  }

  token(text, i) {
    const { agree, mode } = this.a.trace;
    const kinds = ["tok", { 1: "match", 0: "mismatch" }[agree[i]], { s: "safety", u: "utility" }[mode[i]]];
    if (!this.shown) kinds.push("blank");
    if (this.a.refused_at === i) kinds.push("turning");
    const node = el("span", { class: kinds.filter(Boolean).join(" "), "data-i": i, tabindex: "-1" });
    if (this.shown) node.textContent = text.replaceAll("\n", "↵\n") || "\u200b";
    else node.style.setProperty("--n", Math.max(1, Math.min(12, text.length)));
    return node;
  }

  listen() {
    const of = (event) => event.target.closest("[data-i]");
    const select = (event) => of(event) && this.select(Number(of(event).dataset.i), true);
    for (const kind of ["pointerover", "pointerdown", "focusin"]) this.text.addEventListener(kind, select);
    this.text.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.text.addEventListener("focusout", () => { this.tip.hidden = true; });
    this.text.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!step || !of(event)) return;
      event.preventDefault();
      const last = this.text.querySelectorAll("[data-i]").length - 1;
      const next = this.text.children[Math.max(0, Math.min(last, Math.max(0, this.at) + step))];
      this.text.querySelectorAll('[tabindex="0"]').forEach((one) => { one.tabIndex = -1; });
      next.tabIndex = 0;
      next.focus();
    });
  }

  /** What is known of a token. */
  told(i) {
    const { agree, mode, statistic } = this.a.trace;
    const parts = [`token ${i + 1}`, { 1: "models agree", 0: "models disagree" }[agree[i]]];
    parts.push({ u: "utility mode", s: "safety mode" }[mode[i]]);
    parts.push(known(statistic[i]) && `statistic ${number(statistic[i])}`);
    return parts.filter(Boolean).join(" · ");
  }

  limits(i) {
    const { safety, refuse } = this.a.thresholds;
    if (!known(this.a.trace.statistic[i])) return "";
    const limit = (name, v) => (known(v) ? ` · ${name} from ${number(v)}` : "");
    return limit("safety mode", safety) + limit("refuses", refuse);
  }

  select(i, tip = false) {
    this.at = i;
    const node = this.text.children[i], numbers = this.told(i);
    this.text.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
    this.readout.textContent = numbers + this.limits(i);
    if (this.drawn) this.drawn.select(i);
    if (!node || !node.dataset.i) return;
    node.classList.add("chosen");
    this.tip.hidden = !tip;
    this.tip.textContent = numbers;
    if (tip) this.place(node);
  }

  place(node) {
    const box = this.node.getBoundingClientRect(), at = node.getClientRects()[0];
    const left = Math.max(0, Math.min(box.width - this.tip.offsetWidth, at.left - box.left));
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${at.top - box.top - this.tip.offsetHeight - 6}px`;
  }
}
