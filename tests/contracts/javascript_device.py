"""A device whose agent is a program in JavaScript: another language, other caches, no file shared with the host."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptare.devices import AgentDevice, Link, Transport

AGENT = r"""
const fs = require("fs"), programs = {}, folder = process.argv[1], now = () => Number(process.hrtime.bigint()) / 1e9;
const of = (things, name, words) => { if (!(name in things)) throw Error(words); return things[name]; };
const loaded = (asked) => of(programs, asked.program_id, `no program '${asked.program_id}' is loaded`);
function timed([call, restore]) { restore(); const start = now(), value = call(); return [now() - start, value]; }
const answers = {
  machine: () => ({ machine: { hardware: "Wooden Abacus 10 (beads)", at_s: Date.now() / 1e3, known: { beads: 100 } } }),
  hello: (asked) => ({ runtime: `javascript ${process.version}`, threads: asked.threads || 1, free_bytes: 2 ** 30,
    cache_bytes: 7 * 1024, providers: [], timer_step_s: 1e-9, capabilities: [] }),
  missing: (asked) => ({ missing: asked.digests.filter((digest) => !fs.existsSync(`${folder}/files/${digest}`)) }),
  load(asked) {
    const start = now(), model = require(`${folder}/files/${asked.files[asked.source]}`)(asked.arguments), bound = {};
    const told = { outputs: {}, bind_s: {}, first_call_s: {} };
    for (const { name, arguments: given } of asked.feeds) {
      const [bind_s, made] = timed([() => model.bind(given), () => {}]), [first_call_s, output] = timed(made);
      Object.assign(told.bind_s, { [name]: bind_s }), Object.assign(told.first_call_s, { [name]: first_call_s });
      bound[name] = made, told.outputs[name] = output;
    }
    programs[asked.program_id] = bound;
    return { ...told, resident_bytes: 0, peak_bytes: 1024 * process.resourceUsage().maxRSS,
      load_s: now() - start, providers: { javascript: 1 } };
  },
  run(asked) {
    const made = of(loaded(asked), asked.feed_id, `the program has no feed '${asked.feed_id}'`);
    return { count: asked.calls, seconds: Array.from({ length: asked.calls }, () => timed(made)[0]) };
  },
  unload: (asked) => (loaded(asked), delete programs[asked.program_id], {}),
  close: () => ({ end: true }),
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line); let reply;
  try { reply = { ok: true, ...answers[asked.op](asked) }; } catch (error) { reply = { ok: false, error: `${error}` }; }
  process.stdout.write(JSON.stringify({ seq: asked.seq, ...reply }) + "\n", () => reply.end && process.exit());
});
"""


class Node(Transport):
    @contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        with tempfile.TemporaryDirectory() as folder:
            (files := Path(folder, "files")).mkdir()
            node = shutil.which("node") or "node"
            yield Link([node, "-e", AGENT, folder], lambda file: shutil.copyfile(file.path, files / file.digest), {})


def device() -> AgentDevice:
    return AgentDevice(name="javascript", runtime="", timeout_s=60, transport=Node())
