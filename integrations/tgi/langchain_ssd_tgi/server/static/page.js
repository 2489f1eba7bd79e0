// Chats with the pair and draws the match ratio as it comes. Everything a model says is set as text, never as markup.
"use strict";

const WINDOW = 7;
const at = (id) => document.getElementById(id);
let messages = [];
let running = null;
let risk = null;

function newRisk() {
  return { agreements: [], points: [], safety: [], count: 0, agreeing: 0, mode: "utility" };
}

function show(risk, reason) {
  const share = risk.count ? risk.agreeing / risk.count : null;
  at("ratio").textContent = share === null ? "-" : share.toFixed(2);
  at("mode").textContent = risk.count ? risk.mode : "-";
  at("tokens").textContent = risk.count;
  at("safety").textContent = risk.safety.filter(Boolean).length;
  at("reason").textContent = reason || "-";
  draw(risk);
}

function draw(risk) {
  const width = 600 / Math.max(40, risk.points.length);
  const place = (share, i) => `${((i + 0.5) * width).toFixed(1)},${(115 - 110 * share).toFixed(1)}`;
  at("line").setAttribute("points", risk.points.map(place).join(" "));
  const bands = risk.safety.flatMap((isSafety, i) => (isSafety ? [band(i * width, width)] : []));
  at("bands").replaceChildren(...bands);
}

function band(x, width) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rect.setAttribute("class", "band");
  rect.setAttribute("x", x);
  rect.setAttribute("width", width);
  rect.setAttribute("y", 0);
  rect.setAttribute("height", 120);
  return rect;
}

function note(event) {
  if (event.kind !== "token") return;
  risk.count += 1;
  risk.agreeing += event.agreement ? 1 : 0;
  risk.mode = event.mode;
  risk.agreements = [...risk.agreements, event.agreement ? 1 : 0].slice(-WINDOW);
  risk.points.push(risk.agreements.reduce((a, b) => a + b, 0) / risk.agreements.length);
  risk.safety.push(event.mode === "safety");
}

function turn(kind, text) {
  const box = document.createElement("div");
  box.className = `turn ${kind}`;
  box.textContent = text;
  at("talk").append(box);
  box.scrollIntoView({ block: "end" });
  return box;
}

function add(box, text, kind) {
  const last = box.lastChild;
  if (last && last.className === kind) {
    last.textContent += text;
    return;
  }
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  box.append(span);
}

// Server-sent events of a response, one parsed object at a time.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

async function failure(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

async function request(telemetry) {
  return fetch("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages, stream: true, temperature: 0, ssd: telemetry }),
    signal: running.signal,
  });
}

async function answer(box) {
  let response = await request(true);
  if (response.status === 403) response = await request(false); // a server may give no telemetry
  if (!response.ok) throw new Error(await failure(response));
  let said = "";
  let reason = null;
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error);
    if (chunk.ssd) note(chunk.ssd);
    for (const choice of chunk.choices) {
      const text = choice.delta.content || "";
      const kind = choice.delta.refusal ? "refusal" : chunk.ssd && chunk.ssd.mode === "safety" ? "safety" : "utility";
      if (text) add(box, text, kind);
      said = choice.delta.refusal || said + text;
      reason = choice.finish_reason || reason;
    }
    show(risk, reason);
  }
  return said;
}

async function send(text) {
  turn("user", text);
  messages.push({ role: "user", content: text });
  const box = turn("assistant", "");
  running = new AbortController();
  risk = newRisk();
  show(risk, null);
  busy(true);
  try {
    messages.push({ role: "assistant", content: await answer(box) });
  } catch (error) {
    messages.pop(); // a turn that failed is not part of the conversation
    if (error.name === "AbortError") at("reason").textContent = "you";
    else turn("error", error.message);
  } finally {
    running = null;
    busy(false);
  }
}

function busy(isBusy) {
  at("send").disabled = isBusy;
  at("stop").disabled = !isBusy;
  document.body.dataset.state = isBusy ? "busy" : "idle";
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || running) return;
  at("text").value = "";
  send(text);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("stop").addEventListener("click", () => running && running.abort());
at("clear").addEventListener("click", () => {
  messages = [];
  at("talk").replaceChildren();
  risk = newRisk();
  show(risk, null);
});
fetch("info")
  .then((response) => response.json())
  .then((info) => {
    at("model").textContent = info.model_id;
    if (info.ssd && !info.ssd.enforced) at("about").textContent = "Shadow mode: the monitor watches and changes nothing.";
  })
  .catch(() => {});
busy(false);
