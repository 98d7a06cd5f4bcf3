// Runs the parts of the model by onnxruntime-web, on one thread. All arithmetic is in the exported graphs.
"use strict";

const ibdEngine = (() => {
  const names = IBD_MODEL.names, parts = names.parts, sessions = {};

  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  async function start() {
    const script = new Blob([bytes(IBD_RUNTIME.script)], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = bytes(IBD_RUNTIME.wasm).buffer;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(script) };
    for (const name of Object.keys(parts)) {
      sessions[name] = await ort.InferenceSession.create(bytes(IBD_MODEL.parts[name]));
      delete IBD_MODEL.parts[name];
    }
    delete IBD_RUNTIME.wasm;
  }

  async function run(part, given) {
    const inputs = Object.fromEntries(parts[part].inputs.map((name) => [name, given[name]]));
    return await sessions[part].run(inputs);
  }

  async function encode(numbers) {
    const [height, width] = names.image_size;
    return await run("encode", { image: new ort.Tensor("float32", numbers, [1, 3, height, width]) });
  }

  // Units in which those of `set`, a Map of unit -> value, are set by hand.
  async function edit(units, set) {
    const count = names.unit_names.length, values = new Float32Array(count), mask = new Uint8Array(count);
    for (const [unit, value] of set) {
      values[unit] = value;
      mask[unit] = 1;
    }
    const made = await run("edit", {
      ...units, values: new ort.Tensor("float32", values, [1, count]), mask: new ort.Tensor("bool", mask, [1, count]),
    });
    const after = { ...units, edited: made.edited };
    for (const [name, tensor] of Object.entries(made)) if (name.startsWith("new_")) after[name.slice(4)] = tensor;
    return after;
  }

  async function explain(units, index) {
    if (!sessions.explain) return {};
    return await run("explain", { ...units, class_index: new ort.Tensor("int64", BigInt64Array.of(BigInt(index)), [1]) });
  }

  return { names, start, encode, edit, explain, decode: (units) => run("decode", units), can: (part) => part in parts };
})();
