// The page asks for what it shows with the token in a header, and writes every
// text with textContent: what a peer sent stays text.

const byId = (id) => document.getElementById(id);
const storage = "sslgate-token";
let token = takeToken();
let latest = null;   // the newest board
let drawn = false;   // a frame is asked for
let paused = false;
let selected = null; // id of the flow in the detail
let rates = null;    // {at, total, refused} of an earlier board

// The token may come in the fragment, which is never sent anywhere.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(storage, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(storage) || "";
}

class Refused extends Error {}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { Authorization: "Bearer " + token }, cache: "no-store" });
  if (answer.status === 401) throw new Refused("this token is not the gateway's");
  return answer;
}

// Characters that a reader would not see, or that turn the direction of the
// text, are written out.
const hidden = /[\p{C}\p{Zl}\p{Zp}]/gu;
const plain = (s) => String(s ?? "").replace(hidden, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

function text(node, s) {
  const t = plain(s);
  if (node.textContent !== t) node.textContent = t;
}

function element(name, cls, s) {
  const e = document.createElement(name);
  if (cls) e.className = cls;
  if (s !== undefined) text(e, s);
  return e;
}

// rows fills a table: rows and cells are used again, so that the focus stays
// where it is. A cell is a text, or {text, cls, open, pips}.
function rows(table, list, empty) {
  const body = byId(table).tBodies[0];
  const columns = byId(table).tHead.rows[0].cells.length;
  if (list.length === 0) {
    if (!body.dataset.empty) {
      const cell = element("td", "none", empty);
      cell.colSpan = columns;
      const row = document.createElement("tr");
      row.append(cell);
      body.replaceChildren(row);
      body.dataset.empty = "yes";
    }
    return;
  }
  if (body.dataset.empty) {
    body.replaceChildren();
    delete body.dataset.empty;
  }
  while (body.rows.length > list.length) body.lastElementChild.remove();
  list.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    cells.forEach((c, j) => cell(row.cells[j] || row.insertCell(), typeof c === "object" && c ? c : { text: c }));
  });
}

function cell(td, c) {
  const cls = c.cls || "";
  if (td.className !== cls) td.className = cls;
  if (c.open) {
    let b = td.firstElementChild;
    if (!b || b.tagName !== "BUTTON") {
      b = element("button", "link");
      b.type = "button";
      td.replaceChildren(b);
    }
    if (b.dataset.flow !== c.open) b.dataset.flow = c.open;
    text(b, c.text);
    return;
  }
  if (c.pips === undefined) {
    text(td, c.text);
    return;
  }
  let p = td.firstElementChild;
  if (!p || p.className !== "pips") {
    p = element("span", "pips");
    p.setAttribute("aria-hidden", "true");
    for (let n = 1; n <= 9; n++) p.append(document.createElement("i"));
    td.replaceChildren(p, element("span"));
  }
  [...p.children].forEach((i, n) => i.classList.toggle("on", n < c.pips));
  text(td.lastElementChild, c.text);
}

const number = new Intl.NumberFormat("en");
const num = (n) => ({ text: number.format(n), cls: "num" });

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1000) return (unit === "B" ? n : n.toPrecision(3)) + " " + unit;
    n /= 1024;
  }
  return n.toPrecision(3) + " TiB";
}

function age(since, at) {
  const s = Math.max(0, (at - Date.parse(since)) / 1000);
  if (s < 10) return s.toFixed(2) + " s";
  if (s < 120) return s.toFixed(0) + " s";
  if (s < 7200) return (s / 60).toFixed(0) + " min";
  return (s / 3600).toFixed(0) + " h";
}

const clock = (t) => (t || "").slice(11, 19);
const kinds = { allowed: "good", refused: "bad", failed: "warn" };

function facts(f) {
  if (!f) return "";
  const all = [];
  if (f.detail) all.push(f.detail);
  if (f.sni) all.push("server name " + f.sni);
  if (f.subject) all.push((f.proven ? "proven " : "claimed ") + f.subject + (f.sans ? ", " + f.sans.join(", ") : ""));
  return all.join("; ");
}

function draw() {
  drawn = false;
  if (paused || !latest) return;
  const b = latest;
  const at = Date.parse(b.at);
  state(b);
  b.steps.forEach((s, i) => {
    const list = byId("steps");
    let li = list.children[i];
    if (!li) {
      li = document.createElement("li");
      li.append(element("span", "name"), element("span", "now"), element("span", "ended"));
      list.append(li);
    }
    text(li.children[0], s.step + " " + s.name);
    text(li.children[1], number.format(s.now));
    text(li.children[2], number.format(s.ended) + " ended here");
  });
  const inHandshake = b.steps.reduce((n, s) => n + s.now, 0);
  text(document.querySelector("#handshakes .count"), "(" + number.format(inHandshake) + ")");
  rows("handshakes", b.handshakes.map((f) => [
    { pips: f.step, text: f.step, cls: "tight" }, { text: f.client, cls: "tight", open: f.id }, { text: f.destination, cls: "tight" }, f.rule || "-",
    { text: age(f.since, at), cls: "num" }]), "none at this moment");
  rows("refusals", b.refusals.map((g) => {
    const e = g.example;
    return [num(g.count), g.others ? "(other rules)" : g.rule || "default", { text: g.reason, cls: "tight " + kinds[g.verdict] }, e ? e.step : "", { text: e ? e.alert : "", cls: "tight" },
      e ? { text: e.client, open: e.id, cls: "tight" } : "", { text: facts(e), cls: "wide" }];
  }), "nothing was refused since the start");
  rows("recent", b.recent.map((f) => [
    { text: clock(f.at), cls: "tight" }, { text: f.verdict, cls: "tight " + kinds[f.verdict] }, { text: f.reason, cls: "tight" }, { text: f.client, open: f.id, cls: "tight" }, { text: f.sni || f.destination, cls: "wide" }]),
    "no flow has finished yet");
  shadow(b.status.shadow);
  text(document.querySelector("#h-relays .count"), "(" + number.format(b.relaying) + ")");
  rows("relays", b.relays.map((f) => [
    { text: f.client, open: f.id, cls: "tight" }, { text: f.sni || f.destination, cls: "wide" }, f.rule || "-", { text: age(f.since, at), cls: "num" },
    { text: bytes(f.bytes_up + f.bytes_down), cls: "num" }]), "no data flows now");
}

// shadow shows what a second policy would have decided differently.
function shadow(s) {
  byId("shadow").hidden = !s;
  if (!s) return;
  text(byId("shadow-digest"), s.policy);
  const differ = s.differences.reduce((n, d) => n + d.flows, s.rest);
  text(byId("shadow-sum"), number.format(differ) + " of " + number.format(s.flows) + " flows would have been decided differently" + (s.rest ? ", " + number.format(s.rest) + " of them in further ways" : "") + ".");
  const side = (rule, why) => (rule || "default") + (why ? ", " + why : "");
  const bad = { shadow_denies: "bad", shadow_allows: "warn" };
  rows("differences", s.differences.slice(0, 50).map((d) => [
    num(d.flows), { text: d.kind, cls: "tight " + (bad[d.kind] || "") },
    { text: side(d.enforced_rule, d.enforced_reason), cls: "wide" }, { text: side(d.shadow_rule, d.shadow_reason), cls: "wide" }]), "they agree so far");
}

function state(b) {
  const badge = byId("state");
  const ok = b.ready.ready;
  text(badge, b.status.draining ? "draining" : ok ? "ready" : "not ready");
  badge.className = "badge " + (ok ? (b.ready.reasons.length ? "warn" : "good") : "bad");
  const total = b.totals.allowed + b.totals.refused + b.totals.failed;
  const at = Date.parse(b.at);
  let rate = "";
  if (!rates || at - rates.at > 1000) {
    if (rates) rates.text = number.format(Math.round((total - rates.total) * 1000 / (at - rates.at)));
    rates = { at, total, text: rates ? rates.text : "" };
  }
  rate = rates.text;
  definitions(byId("facts"), {
    flows: number.format(b.status.flows) + " of " + number.format(b.status.flows_max),
    "a second": rate || "-",
    allowed: number.format(b.totals.allowed), refused: number.format(b.totals.refused), failed: number.format(b.totals.failed),
    memory: memory(b.status.memory), "flows hold": b.status.memory ? bytes(b.status.memory.held_by_flows) : "-",
    "refused, ended for memory": b.status.memory ? number.format(b.status.memory.refused || 0) + ", " + number.format(b.status.memory.shed || 0) : "-",
    version: b.status.version || "-", since: (b.status.started || "").slice(0, 16).replace("T", " "),
  });
  items(byId("reasons"), b.ready.reasons);
  // What the guard in the kernel dropped; QUIC is refused as configured.
  items(byId("dropped"), b.status.dropped.map((d) => number.format(d.packets) + " dropped by the guard (" + d.reason + "): " + d.cause));
}

// memory is what is in use of limits.memory, and what that leads to at the moment.
function memory(m) {
  if (!m || !m.ceiling) return "no bound";
  return bytes(m.in_use || 0) + " of " + bytes(m.ceiling) + (m.level && m.level !== "calm" ? ", " + m.level : "");
}

// items makes a list of texts.
function items(list, texts) {
  while (list.children.length > texts.length) list.lastElementChild.remove();
  texts.forEach((t, i) => text(list.children[i] || list.appendChild(document.createElement("li")), t));
}

function definitions(dl, all) {
  Object.entries(all).forEach(([name, value], i) => {
    let d = dl.children[i];
    if (!d) {
      d = document.createElement("div");
      d.append(element("dt", "", name), document.createElement("dd"));
      dl.append(d);
    }
    text(d.lastElementChild, value);
  });
}

function schedule(board) {
  latest = board;
  if (!drawn) {
    drawn = true;
    requestAnimationFrame(draw);
  }
}

// follow reads boards, one a line, until the stream ends.
async function follow() {
  const answer = await ask("/v1/board");
  if (!answer.ok) throw new Error((await answer.json()).error);
  show(true);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the gateway has gone");
    rest += value;
    const end = rest.lastIndexOf("\n");
    if (end < 0) continue;
    const start = rest.lastIndexOf("\n", end - 1) + 1; // of the newest whole line
    const line = rest.slice(start, end);
    rest = rest.slice(end + 1);
    schedule(JSON.parse(line));
  }
}

function show(open) {
  byId("main").hidden = !open;
  byId("login").hidden = open;
  if (!open) byId("token").focus();
}

async function run() {
  for (;;) {
    try {
      if (!token) throw new Refused("");
      slow();
      await follow();
    } catch (err) {
      const badge = byId("state");
      badge.className = "badge bad";
      if (err instanceof Refused) {
        sessionStorage.removeItem(storage);
        text(badge, "locked");
        text(byId("login-error"), err.message);
        show(false);
        return;
      }
      text(badge, err.message || "no connection");
    }
    await new Promise((wake) => setTimeout(wake, 2000));
  }
}

// maxRules is how many rules are drawn: those with the most flows.
const maxRules = 100;

// slow asks for what changes seldom.
let slowTimer = 0;
async function slow() {
  clearTimeout(slowTimer);
  slowTimer = setTimeout(slow, 3000);
  if (paused || !token) return;
  try {
    const [policy, certificates, lists] = await Promise.all(["/v1/policy?limit=" + maxRules, "/v1/certificates", "/v1/revocation"].map(async (p) => (await ask(p)).json()));
    text(byId("digest"), policy.digest);
    const hits = (h) => [num(h.allowed), num(h.refused), num(h.failed), { text: number.format(h.would), cls: "num " + (h.would ? "warn" : "") }];
    rows("policy", [
      ...policy.rules.map((r) => [r.name, r.action, { text: r.mode, cls: r.mode === "observe" ? "warn" : "" }, ...hits(r.hits)]),
      ["default", "deny", policy.mode, ...hits(policy.default)]], "");
    byId("more").hidden = !policy.more;
    text(byId("more"), "The " + number.format(policy.rules.length) + " rules with the most flows; " + number.format(policy.more || 0) + " more are not shown.");
    byId("observed").hidden = policy.would.length === 0;
    rows("would", policy.would.slice(0, 50).map((w) => [num(w.flows), w.others ? "(other rules)" : w.would_rule || "default", { text: w.would_reason, cls: "wide" }]), "");
    rows("certificates", certificates.slice(0, 50).map((c) => [
      { text: c.days_left.toFixed(1), cls: "num " + (c.days_left < 0 ? "bad" : c.days_left < 14 ? "warn" : "") }, c.kind, c.name, { text: c.subject, cls: "wide" }]), "none");
    rows("crls", lists.slice(0, 50).map((l) => [
      { text: Date.parse(l.next_update) > Date.parse("0001-01-02T00:00:00Z") ? ((Date.parse(l.next_update) - Date.now()) / 3.6e6).toFixed(1) : "-", cls: "num" },
      { text: l.state, cls: { fresh: "good", late: "warn" }[l.state] || "bad" }, l.authority, l.mode, num(l.entries),
      { text: l.source + (l.error ? ": " + l.error : ""), cls: "wide" }]), "no authority has any");
  } catch {
    // The stream says what is wrong.
  }
}

async function open(id) {
  selected = id;
  let shown;
  try {
    const answer = await ask("/v1/flows/" + encodeURIComponent(id));
    const body = await answer.json();
    shown = answer.ok ? body.picture : body.error;
  } catch (err) {
    shown = err.message;
  }
  if (selected !== id) return;
  byId("detail").hidden = false;
  text(byId("h-detail"), "Flow " + id);
  // The picture is lines of text that is escaped already.
  byId("picture").textContent = shown;
  byId("h-detail").focus();
  byId("detail").scrollIntoView({ block: "nearest" });
}

function close() {
  byId("detail").hidden = true;
  const back = selected && document.querySelector(`button[data-flow="${CSS.escape(selected)}"]`);
  selected = null;
  (back || byId("pause")).focus();
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  text(byId("pause"), paused ? "Go on" : "Pause");
  if (!paused) {
    draw();
    slow();
  }
}

document.addEventListener("click", (e) => {
  const b = e.target.closest("button[data-flow]");
  if (b) open(b.dataset.flow);
});
document.addEventListener("keydown", (e) => {
  if (e.target.tagName === "INPUT" || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "Escape" && selected) close();
  if (e.key === "p") pause();
});
byId("pause").addEventListener("click", pause);
byId("close").addEventListener("click", close);
byId("login").addEventListener("submit", (e) => {
  e.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem(storage, token);
  byId("token").value = "";
  text(byId("login-error"), "");
  run();
});
run();
