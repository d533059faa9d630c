// The agent of a page, in a Web Worker: loads programs with ONNX Runtime Web and times calls. A worker serves from
// `hello` to `close`, so that each opening has a new WebAssembly memory and its own number of threads.

import { filled } from "./feeds.js";

const OUTPUT_VALUES = 512;
const MEMORY_BYTES = 2 ** 32; // addresses of WebAssembly memory have 32 bits
const MEMORY_PAGE_BYTES = 2 ** 16;
const SAMPLE_STEPS = 100; // of the clock, for calls that are timed together
const BACKENDS = {
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"],
  webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"],
};

// A graph of one node; a session of it starts the library, with all its threads.
const ABSOLUTE = "CAg6NAoNCgF4EgF5IgNBYnM6ABIBZ1oPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBE=";

class OptionError extends Error {}

const now = () => performance.now() / 1e3;
const memory = { most: MEMORY_BYTES, used: () => 0 };
const programs = {};
let ort, backend, nodes = {}, step_s, others = new Int32Array(0);

const answers = {
  async hello({ threads, options, memory_bytes }) {
    const unknown = Object.keys(options).filter((name) => name !== "backend");
    if (unknown.length || !(options.backend in BACKENDS))
      throw new OptionError(`pages take the option backend, one of ${Object.keys(BACKENDS)}, not ${JSON.stringify(options)}`);
    const most = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
    const usual = Math.min(most, 4, Math.ceil(navigator.hardwareConcurrency / 2)); // as by the library's default
    if (threads > most) throw new OptionError(`threads must be 1 to ${most} here, not ${threads}${whyOne()}`);
    memory.most = Math.min(MEMORY_BYTES, 2 ** 30 * (navigator.deviceMemory ?? 4), memory_bytes || MEMORY_BYTES);
    backend = options.backend, step_s = stepOfClock();
    watchMemory();
    watchLog();
    ort = await runtime(BACKENDS[backend]);
    ort.env.wasm.numThreads = threads || usual;
    const one = await ort.InferenceSession.create(Uint8Array.from(atob(ABSOLUTE), (c) => c.charCodeAt(0)), plain());
    await one.release();
    return {
      runtime: `onnxruntime-web ${ort.env.versions.web}`, threads: ort.env.wasm.numThreads,
      free_bytes: Math.floor((memory.most - memory.used()) / 2), // a new session holds its weights twice for a while
      timer_step_s: step_s, providers: [backend], capabilities: [],
    };
  },

  async load({ program_id, source, arguments: given, contents, copies, between_bytes, feeds }) {
    const used = memory.used(), start = now();
    nodes = {};
    const program = { sessions: [], bound: {} }, told = { outputs: {}, bind_s: {}, first_call_s: {} };
    try {
      while (program.sessions.length < copies)
        program.sessions.push(await session(source, given, contents, !program.sessions.length));
      checkPlaces(source);
      for (const { name, arguments: { inputs } } of feeds) {
        const unbound = now(), call = inTurn(program.sessions.map((each) => bind(each, inputs)));
        told.bind_s[name] = now() - unbound;
        const uncalled = now(), output = await call();
        told.first_call_s[name] = Math.max(step_s, now() - uncalled);
        told.outputs[name] = sampleOutput(output);
        for (let copy = 1; copy < copies; copy++) await call();
        program.bound[name] = { call, restore: readingOthers(between_bytes) };
      }
    } catch (error) {
      await release(program).catch(() => {});
      throw error;
    }
    programs[program_id] = program;
    return { ...told, load_s: now() - start, resident_bytes: memory.used() - used, peak_bytes: memory.used(),
      providers: { ...nodes } };
  },

  // Seconds of each call. The first call of each copy is timed alone; after those, calls that are short in steps of the
  // clock are timed together, and each is given their mean.
  async run({ program_id, feed_id, calls }) {
    const program = loaded(program_id), bound = program.bound[feed_id], seconds = [];
    if (!bound) throw Error(`the program has no feed '${feed_id}'; it has [${Object.keys(program.bound)}]`);
    while (seconds.length < calls) {
      const alone = seconds.length < program.sessions.length;
      const [mean_s, count] = await timed(bound, alone ? step_s : SAMPLE_STEPS * step_s);
      for (let i = 0; i < (alone ? 1 : count) && seconds.length < calls; i++) seconds.push(mean_s);
    }
    return { count: seconds.length, seconds };
  },

  async unload({ program_id }) {
    await release(loaded(program_id));
    delete programs[program_id];
    return {};
  },
};

self.onmessage = async ({ data: request }) => {
  try {
    if (!Object.hasOwn(answers, request.op)) throw Error(`pages know no request '${request.op}'`);
    self.postMessage({ ok: true, ...(await answers[request.op](request)) });
  } catch (error) {
    self.postMessage(refusal(error));
  }
};

function refusal(error) {
  if (error instanceof OptionError) return { ok: false, cause: "option", error: error.message };
  // After an abort the memory of the library is in no defined state; C++ exceptions that nobody caught are numbers.
  if (error instanceof WebAssembly.RuntimeError || typeof error === "number") return { died: `${error}` };
  const text = error?.message ?? `${error}`, full = /bad_alloc|allocat|out of memory|invalid array length/i.test(text);
  const advice = `; WebAssembly memory is limited to ${Math.floor(memory.most / 2 ** 20)} MiB; compose it from stubs (--stubs)`;
  return { ok: false, error: full ? `out of memory: ${text}${advice}` : text };
}

function whyOne() {
  return self.crossOriginIsolated ? "" : ": the page is not isolated; open it by https, or on 127.0.0.1 by adb reverse";
}

// The only memory of the library, which it does not disclose.
function watchMemory() {
  const Plain = WebAssembly.Memory;
  WebAssembly.Memory = function Memory(described) {
    const most = Math.floor(memory.most / MEMORY_PAGE_BYTES), initial = Math.min(described.initial, most);
    const made = new Plain({ ...described, initial, maximum: Math.min(described.maximum ?? most, most) });
    memory.used = () => made.buffer.byteLength;
    return made;
  };
  WebAssembly.Memory.prototype = Plain.prototype;
}

// Counts the nodes on each provider, which the library tells in its log only.
function watchLog() {
  for (const kind of ["debug", "error", "info", "log", "warn"]) {
    const plain = console[kind].bind(console);
    console[kind] = (...words) => {
      const text = words.join(" "), [, provider, count] = /placed on \[(\w+)\]\. Number of nodes: (\d+)/.exec(text) ?? [];
      if (provider) nodes[provider] = (nodes[provider] ?? 0) + Number(count);
      else if (!/\[[VI]:onnxruntime/.test(text)) plain(...words);
    };
  }
}

// Other providers leave nodes that they do not support to that of the processor, without a word.
function checkPlaces(source) {
  const count = Object.values(nodes).reduce((a, b) => a + b, 0);
  if (!count) nodes = { [backend]: 1 };
  else if (backend !== "wasm" && count === (nodes.CPUExecutionProvider ?? 0))
    throw Error(`backend '${backend}' was requested but runs none of the ${count} nodes of '${source}'`);
}

// The library, from the server of the page, or from elsewhere if its files have the pinned hashes.
async function runtime(names) {
  const { folder, integrity } = await (await fetch("device.json")).json();
  const [entry, mjs, wasm] = await Promise.all(names.map(async (name) => {
    const url = new URL(folder + name, self.location);
    if (!integrity) return url.href;
    const response = await fetch(url, { integrity: integrity[name], credentials: "omit" });
    if (!response.ok) throw Error(`${url} answers ${response.status}`);
    return URL.createObjectURL(await response.blob());
  }));
  const library = await import(entry);
  library.env.wasm.wasmPaths = { mjs, wasm };
  return library;
}

const plain = () => ({ executionProviders: [backend], logSeverityLevel: 3 });

async function session(source, { prepared = true, ...unknown }, contents, logged) {
  if (Object.keys(unknown).length) throw Error(`pages know no arguments [${Object.keys(unknown)}] of a program`);
  if (!(source in contents)) throw Error(`the program has no file '${source}'; it has [${Object.keys(contents)}]`);
  const bytes = async (file) => new Uint8Array(await file.arrayBuffer());
  const names = Object.keys(contents).filter((name) => name !== source);
  const externalData = await Promise.all(names.map(async (path) => ({ path, data: await bytes(contents[path]) })));
  const raw = { graphOptimizationLevel: "disabled", extra: { session: { disable_prepacking: "1" } } };
  const options = { ...plain(), externalData, ...(prepared ? {} : raw), ...(logged ? { logSeverityLevel: 0 } : {}) };
  return ort.InferenceSession.create(await bytes(contents[source]), options);
}

function bind(made, specs = {}) {
  const names = made.inputNames, known = Object.keys(specs), absent = names.filter((name) => !known.includes(name));
  if (absent.length) throw Error(`the feed has no spec for inputs [${absent}]; it has [${known}]`);
  const unknown = known.filter((name) => !names.includes(name));
  if (unknown.length) throw Error(`the graph has no inputs [${unknown}]; it has [${names}]`);
  const tensors = names.map((name) => [name, filled(name, specs[name])]);
  const inputs = Object.fromEntries(tensors.map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]));
  return async () => (await made.run(inputs))[made.outputNames[0]].data;
}

function inTurn(calls) {
  let turn = 0;
  return () => calls[turn++ % calls.length]();
}

// Mean seconds of so many calls that they last as long as asked, and their number.
async function timed({ call, restore }, least_s) {
  let total_s = 0, count = 0;
  while (total_s < least_s) {
    restore();
    const start = now();
    await call();
    total_s += now() - start, count++;
  }
  return [total_s / count, count];
}

// Reads memory in place of the rest of the model of a stub.
function readingOthers(bytes) {
  if (bytes > others.byteLength) others = new Int32Array(Math.ceil(bytes / 4)).fill(1);
  return () => {
    let sum = 0;
    for (let i = 0; i < bytes / 4; i++) sum ^= others[i];
    return sum;
  };
}

// At most 512 values, evenly spaced.
function sampleOutput(output) {
  const step = Math.max(1, Math.ceil(output.length / OUTPUT_VALUES)), values = [];
  for (let i = 0; i < output.length; i += step) values.push(Number(output[i]));
  if (!values.every(Number.isFinite)) throw Error("the output has values that are not finite");
  return values;
}

function loaded(program_id) {
  if (!(program_id in programs)) throw Error(`no program '${program_id}' is loaded`);
  return programs[program_id];
}

async function release({ sessions }) {
  for (const made of sessions) await made.release();
}

// Smallest difference of the clock, seconds; the clock moves in steps, with some jitter.
function stepOfClock() {
  const steps = [];
  for (let before = now(); steps.length < 50; ) {
    const after = now();
    if (after > before) steps.push(after - before), (before = after);
  }
  return Math.round(1e9 * Math.min(...steps)) / 1e9;
}
