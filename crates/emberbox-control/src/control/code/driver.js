// Runs cells of code that keep their names. A request is a line of JSON on
// standard input; its answer is one on standard output.
{
  const fs = require("fs"), readline = require("readline"), util = require("util"), vm = require("vm");
  const KEPT = 256 * 1024; // bytes of each stream that are told
  const RESULT = 64 * 1024; // characters of a result that are told
  delete process.env.EMBERBOX_DRIVER;

  const taken = { stdout: [], stderr: [] };
  const take = (name, data) => taken[name].push(Buffer.from(data));
  for (const name of ["stdout", "stderr"]) {
    process[name].write = (data, encoding, done) => {
      take(name, typeof data === "string" ? Buffer.from(data, typeof encoding === "string" ? encoding : "utf8") : data);
      const told = typeof encoding === "function" ? encoding : done;
      if (told) process.nextTick(told);
      return true;
    };
  }
  const complain = (error) => take("stderr", (error && error.stack ? error.stack : util.inspect(error)) + "\n");
  process.on("uncaughtException", complain);
  process.on("unhandledRejection", complain);

  const kept = (name) => {
    const all = Buffer.concat(taken[name]);
    taken[name] = [];
    return [all.subarray(0, KEPT).toString("base64"), all.length > KEPT];
  };
  const shown = (value) => {
    if (value === undefined) return null;
    try {
      const text = JSON.stringify(value);
      if (text !== undefined && text.length <= RESULT) return JSON.parse(text);
    } catch {}
    return util.inspect(value).slice(0, RESULT);
  };
  const answer = (reply) => {
    let data = Buffer.from("\n" + JSON.stringify(reply) + "\n");
    const pause = new Int32Array(new SharedArrayBuffer(4));
    while (data.length > 0) {
      try {
        data = data.subarray(fs.writeSync(1, data));
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        Atomics.wait(pause, 0, 0, 2);
      }
    }
  };

  (async () => {
    let count = 0;
    for await (const line of readline.createInterface({ input: process.stdin, terminal: false })) {
      const request = JSON.parse(line);
      count += 1;
      let ok = true, result = null;
      try {
        result = shown(await vm.runInThisContext(request.code, { filename: `<cell ${count}>` }));
      } catch (error) {
        ok = false;
        complain(error);
      }
      const [stdout, moreOut] = kept("stdout"), [stderr, moreErr] = kept("stderr");
      answer({ id: request.id, ok, stdout, stderr, result, truncated: moreOut || moreErr });
    }
    process.exit(0);
  })();
}
