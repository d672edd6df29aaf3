// ONNX Runtime Web feeds no input that has a default, so the page's graph has none.
import protobuf from "protobufjs/minimal.js";

const DIAL = "fidelity";
const [GRAPH, INITIALIZER, NAME, RAW_DATA] = [7, 5, 8, 9]; // of ModelProto, GraphProto, TensorProto, in onnx.proto

/** The fields of a message that are chunks of bytes or messages, as [number, contents], and all others as they stand. */
function fields(bytes) {
  const reader = protobuf.Reader.create(bytes);
  const all = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    if ((tag & 7) === 2) all.push([tag >>> 3, reader.bytes()]);
    else all.push([0, bytes.subarray(start, reader.skipType(tag & 7).pos)]);
  }
  return all;
}

function message(parts) {
  const made = parts.map(([number, contents]) => {
    return number ? protobuf.Writer.create().uint32((number << 3) | 2).bytes(contents).finish() : contents;
  });
  return Buffer.concat(made);
}

/** A graph whose dial must be given, as {model, fidelity}: its bytes, and where the dial stood. */
export function withoutDefault(bytes) {
  let fidelity = null;
  const kept = ([number, contents]) => {
    if (number !== INITIALIZER) return true;
    const tensor = new Map(fields(contents));
    if (Buffer.from(tensor.get(NAME)).toString() !== DIAL) return true;
    fidelity = Buffer.from(tensor.get(RAW_DATA)).readFloatLE();
    return false;
  };
  const model = message(fields(bytes).map(([number, contents]) => {
    return number === GRAPH ? [number, message(fields(contents).filter(kept))] : [number, contents];
  }));
  if (fidelity === null) throw new Error(`The graph has no input ${DIAL}: write it anew with 'tadisr export'.`);
  return {model, fidelity};
}
