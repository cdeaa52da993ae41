// Gel's JavaScript client signs in by SCRAM and asks, as its AI package does:
// `node gel.mjs URL USER PASSWORD CHAT_MODEL EMBEDDING_MODEL TYPE`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { getHTTPSCRAMAuth } = require("gel/dist/httpScram.js");
const { getAuthenticatedFetch } = require("gel/dist/utils.js");
const { cryptoUtils } = require("gel/dist/nodeCrypto.js");

const [url, user, password, model, embedder, type] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const signIn = getHTTPSCRAMAuth(cryptoUtils);
const connection = { address: [hostname, Number(port)], user, database: "main", tlsSecurity: "insecure" };

const ask = await getAuthenticatedFetch({ ...connection, password }, signIn, "ext/ai/");
const body = { context: { query: type }, model, query: "What color is the sky on Mars?" };
const prompt = { name: "builtin::rag-default", custom: [{ role: "user", content: [{ type: "text", text: "Well?" }] }] };
const post = (operation, sent) =>
  ask(operation, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) });

const whole = await post("rag", { ...body, prompt, stream: false });
assert.equal(whole.status, 200);
const answer = await whole.json();
assert(answer.text.length > 0);
assert.equal(answer.text, answer.response);

const stream = await post("rag", { ...body, stream: true });
assert.equal(stream.headers.get("content-type"), "text/event-stream");
const kinds = (await stream.text()).split("\n").filter((line) => line.startsWith("event: ")).map((line) => line.slice(7));
assert.equal(kinds[0], "message_start");
assert.equal(kinds.at(-1), "message_stop");

const vectors = await (await post("embeddings", { inputs: ["red"], model: embedder })).json();
assert(vectors.data[0].embedding.length > 1);

await assert.rejects(signIn(url, user, "wrong"), /authentication failed/i);
await assert.rejects(signIn(url, "nobody", password), /authentication failed/i);
console.log("ok");
