// The page: relays requests of the server to the agent, brings it files, and shows what it does. Requests during which
// the page was hidden are repeated, because browsers slow hidden pages down.

const HIDDEN_MS = 60e3; // how long a request waits for the page to be visible
const TRIES = 3; // of a request that was disturbed
const RETRY_MS = 1e3;
const SHOWN_EVERY_MS = 1e3; // drawing takes processor time from the calls
const TAKEN = 4001; // close code: another page is the device now

const KEPT_BYTES = 2 ** 31; // of files
const files = new Map(); // digest -> Blob, the one used last at the end; browsers keep them outside the memory of pages
const counts = { hidden: 0, calls: 0 };
const agents = new Map(); // number -> agent, one for each process that measures here
let shown_at = 0, screen_lock = null;

function show(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== `${text}`) place.textContent = text;
}

function connect(hardware) {
  const told = new URLSearchParams({ isolated: self.crossOriginIsolated, hardware });
  const socket = new WebSocket(Object.assign(new URL(`socket?${told}`, location), { protocol: location.protocol.replace("http", "ws") }));
  socket.onopen = () => (show("state", "waiting for a program"), show("warning", ""), keepScreenOn());
  socket.onmessage = async ({ data }) => {
    const { id, agent, request } = JSON.parse(data);
    const reply = request ? await answer(agent, request) : end(agent);
    if (reply && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ id, ...reply }));
  };
  socket.onclose = ({ code }) => {
    for (const agent of agents.keys()) end(agent);
    show("state", "not connected");
    show("warning", code === TAKEN ? "Another page is this device; close it, and reload this one." : "The server ended, or is out of reach.");
    if (code !== TAKEN) setTimeout(connect, RETRY_MS, hardware);
  };
}

// Ends an agent, whose memory is freed.
function end(agent) {
  agents.get(agent)?.worker.terminate();
  agents.delete(agent);
  if (!agents.size) show("state", "waiting for a program"), show("calls", counts.calls);
}

// `{reply}` to a request, or `{died}` if the agent did.
async function answer(agent, request) {
  const seq = request.seq;
  try {
    const reply = await (answers[request.op] ?? asked)(agent, request);
    return reply.died ? (end(agent), reply) : { reply: { seq, ...reply } };
  } catch (error) {
    return { reply: { seq, ok: false, error: error.message } };
  }
}

const answers = {
  async hello(agent, request) {
    end(agent);
    agents.set(agent, started());
    const reply = await asked(agent, request);
    if (!reply.ok) return reply;
    const runtime = `${reply.runtime}, ${browserName()}`;
    return { ...reply, runtime };
  },
  missing: (agent, { digests }) => ({ ok: true, missing: digests.filter((digest) => !files.has(digest)) }),
  async load(agent, request) {
    const contents = {};
    for (const [name, digest] of Object.entries(request.files)) contents[name] = await kept(digest);
    show("program", request.source);
    return undisturbed(agent, { ...request, contents });
  },
  async run(agent, request) {
    const reply = await undisturbed(agent, request);
    counts.calls += reply.count ?? 0;
    if (performance.now() - shown_at > SHOWN_EVERY_MS) show("calls", counts.calls), (shown_at = performance.now());
    return reply;
  },
  async machine() {
    return { ok: true, machine: { at_s: Date.now() / 1e3, hardware: await hardwareName(), known: await environment() } };
  },
  close: (agent) => (end(agent), { ok: true, end: true }),
};

function started() {
  const made = { worker: new Worker("agent.js", { type: "module" }), settle: () => {} };
  made.worker.onmessage = ({ data }) => made.settle(data);
  made.worker.onerror = ({ message }) => made.settle({ died: message || "the worker could not be started" });
  return made;
}

// Reply of an agent.
function asked(agent, request) {
  const made = agents.get(agent);
  if (!made) throw Error("this agent does not run; it needs a hello first");
  show("state", `busy: ${request.op}`);
  return new Promise((settle) => {
    made.settle = settle;
    made.worker.postMessage(request);
  });
}

// Reply to a request during which the page was visible all the time.
async function undisturbed(agent, request) {
  for (let tries = 0; tries < TRIES; tries++) {
    await visible();
    const before = counts.hidden, reply = await asked(agent, request);
    if (counts.hidden === before && !document.hidden) return reply;
    if (request.op === "load" && reply.ok) await asked(agent, { op: "unload", program_id: request.program_id });
  }
  throw Error(`the page was hidden during ${request.op}, ${TRIES} times; keep it in front, and the screen on`);
}

async function visible() {
  const since = performance.now();
  while (document.hidden) {
    if (performance.now() - since > HIDDEN_MS)
      throw Error(`the page was hidden for ${HIDDEN_MS / 1e3} s; keep it in front, and the screen on`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

// A file of a program; those that were not used for long are dropped.
async function kept(digest) {
  const file = files.get(digest) ?? (await fetched(digest));
  files.delete(digest);
  files.set(digest, file);
  let bytes = [...files.values()].reduce((sum, { size }) => sum + size, 0);
  for (const [oldest, { size }] of files) {
    if (bytes <= KEPT_BYTES || oldest === digest) break;
    files.delete(oldest), (bytes -= size);
  }
  return file;
}

// A file from the server, refused by the browser if it does not have this hash.
async function fetched(digest) {
  const bytes = digest.match(/../g).map((pair) => String.fromCharCode(parseInt(pair, 16)));
  const response = await fetch(`files/${digest}`, { integrity: `sha256-${btoa(bytes.join(""))}` }).catch(() => null);
  if (!response?.ok) throw Error(`the file with the hash ${digest} did not come, or is another one by now`);
  return response.blob();
}

async function hardwareName() {
  const known = await navigator.userAgentData?.getHighEntropyValues(["model", "architecture", "bitness", "platformVersion"]);
  const system = known ? `${known.platform} ${known.platformVersion}` : navigator.userAgent.match(/\(([^)]*)\)/)?.[1];
  const processor = known?.architecture ? `${known.architecture} ${known.bitness} bit` : "processor not disclosed";
  return `${known?.model || system?.trim() || "unknown"} (${processor}, ${navigator.hardwareConcurrency} processors)`;
}

function browserName() {
  const named = ["Edg", "OPR", "Firefox", "Chrome", "Version"].map((name) => navigator.userAgent.match(`${name}/\\d+`));
  return named.find(Boolean)?.[0].replace("Version", "Safari").replace("/", " ") ?? "unknown browser";
}

async function environment() {
  const battery = await navigator.getBattery?.().catch(() => undefined);
  return {
    system: navigator.userAgent, logical_processors: navigator.hardwareConcurrency,
    memory_gib: navigator.deviceMemory ?? null, isolated: self.crossOriginIsolated, hidden_times: counts.hidden,
    screen_kept_on: screen_lock !== null && !screen_lock.released,
    battery: battery ? { capacity: `${Math.round(100 * battery.level)}`, status: battery.charging ? "Charging" : "Discharging" } : null,
  };
}

async function keepScreenOn() {
  if (document.hidden || (screen_lock && !screen_lock.released)) return;
  screen_lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
  if (screen_lock) show("screen", "kept on");
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) counts.hidden++;
  else keepScreenOn();
});
show("name", (await (await fetch("device.json")).json()).name);
show("isolation", self.crossOriginIsolated ? "as many as asked for" : "1, and a coarse clock: the page is not isolated");
connect(await hardwareName());
