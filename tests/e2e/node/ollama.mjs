// Ollama's own client: `node ollama.mjs URL KEY MODEL EMBEDDER`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [host, key, model, embedder] = process.argv.slice(2);
const client = new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });
const asked = { model, messages: [{ role: "user", content: "Tell me a story" }], options: { temperature: 0, num_predict: 32 } };

const whole = await client.chat(asked);
assert(whole.message.content.length > 0);
assert(whole.done && whole.eval_count > 0);

let text = "";
let last;
for await (const part of await client.chat({ ...asked, stream: true })) {
  text += part.message.content;
  last = part;
}
assert.equal(text, whole.message.content);
assert.equal(last.done_reason, whole.done_reason);

const generated = await client.generate({ model, prompt: "Tell me a story", options: asked.options });
assert.equal(generated.response, whole.message.content);

const vectors = await client.embed({ model: embedder, input: ["The sky is red.", "Cheese is milk."] });
assert.equal(vectors.embeddings.length, 2);

const names = (await client.list()).models.map((entry) => entry.model);
assert(names.includes(model) && names.includes(embedder), names.join());
assert((await client.show({ model })).capabilities.includes("completion"));

await assert.rejects(client.chat({ ...asked, model: "nope" }), (error) => error.status_code === 404 && error.error.includes("nope"));
await assert.rejects(client.pull({ model: "x" }), (error) => error.status_code === 501);
console.log("ok");
