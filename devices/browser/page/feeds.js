// Inputs of programs, bit-identical to those of the agent in Python (feeds.py, which specifies them).

const ARRAYS = { float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array };
const FILLS = ["constant", "integers", "uniform"];
const HALF = 2 ** 23;
const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

// Type, values and sizes of the input specified by `spec`; throws if the specification is invalid.
export function filled(name, spec) {
  const fills = Object.keys(spec).filter((key) => !["dtype", "shape", "seed", "padded_to"].includes(key));
  if (fills.length !== 1 || !FILLS.includes(fills[0]))
    throw Error(`input '${name}' must be filled by exactly one of ${FILLS.join(", ")}, not by [${fills}]`);
  const [fill] = fills, needed = fill === "constant" ? ["dtype", "shape"] : ["dtype", "seed", "shape"];
  const lacking = needed.filter((key) => !(key in spec));
  if (lacking.length) throw Error(`input '${name}': its spec lacks ${lacking.join(", ")}`);
  const { dtype, shape } = spec;
  if (!(dtype in ARRAYS)) throw Error(`input '${name}' has type ${dtype}; pages make ${Object.keys(ARRAYS).join(", ")}`);
  const values = new ARRAYS[dtype](product(shape)), value = valueOf(fill, spec);
  const typed = dtype === "int64" ? BigInt : Number;
  for (let i = 0; i < values.length; i++) values[i] = typed(value(i));
  if (!("padded_to" in spec)) return { type: dtype, data: values, dims: shape };
  const whole = spec.padded_to;
  if (whole.length !== shape.length || shape.some((size, axis) => size > whole[axis]))
    throw Error(`input '${name}' of shape [${shape}] cannot be padded to [${whole}]`);
  return { type: dtype, data: padded(values, shape, whole), dims: whole };
}

function valueOf(fill, spec) {
  if (fill === "constant") return () => spec.constant;
  if (fill === "integers") return (i) => word(spec.seed, i) % spec.integers;
  const scale = Math.fround(spec.uniform / HALF);
  return (i) => Math.fround(((word(spec.seed, i) >>> 8) - HALF) * scale);
}

function word(seed, i) {
  let x = (seed + Math.imul(i, 0x9e3779b9)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

// Zeros after the values of every axis.
function padded(values, shape, whole) {
  if (!shape.length) return values;
  const made = new values.constructor(product(whole)), length = shape.at(-1);
  for (let row = 0; row < values.length / length; row++) {
    let rest = row, at = 0, stride = whole.at(-1);
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      at += (rest % shape[axis]) * stride;
      stride *= whole[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    made.set(values.subarray(row * length, (row + 1) * length), at);
  }
  return made;
}
