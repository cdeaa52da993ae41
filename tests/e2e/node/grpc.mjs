// A Node gRPC client with the protos: `node grpc.mjs PROTO_ROOTS MODEL_ADDRESS INFERENCE_ADDRESS KEY`.
import assert from "node:assert/strict";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [roots, modelAddress, inferenceAddress, key] = process.argv.slice(2);
const load = (file) =>
  grpc.loadPackageDefinition(
    loader.loadSync(file, { includeDirs: roots.split(":"), keepCase: true, longs: String, enums: String, oneofs: true, defaults: true }),
  ).penstock;
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${key}`);
const credentials = grpc.credentials.createInsecure();

const models = new (load("penstock/model/v1/model_service.proto").model.v1.ModelService)(modelAddress, credentials);
const listed = await new Promise((resolve, reject) =>
  models.ListModels({}, metadata, (error, answer) => (error ? reject(error) : resolve(answer.models))),
);
assert(listed.some((m) => m.name === "models/penstock-starter" && m.state === "STATE_READY"), JSON.stringify(listed));

const inference = new (load("penstock/inference/v1/inference_service.proto").inference.v1.InferenceService)(inferenceAddress, credentials);
const call = inference.StreamChat(
  { model: "penstock-starter", messages: [{ role: "ROLE_USER", parts: [{ text: "Hello!" }] }], sampling: { temperature: 0 } },
  metadata,
);
let text = "";
const seen = [];
for await (const event of call) {
  seen.push(event.event);
  text += event.delta?.text ?? "";
}
assert.equal(seen[0], "started");
assert.equal(seen.at(-1), "done");
assert(text.length > 0);

await new Promise((resolve) =>
  inference.Chat({ model: "nope", messages: [{ role: "ROLE_USER", parts: [{ text: "Hi" }] }] }, metadata, (error) => {
    assert.equal(error.code, grpc.status.NOT_FOUND);
    resolve();
  }),
);
console.log("ok", text);
process.exit(0);
