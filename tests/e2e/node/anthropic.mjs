// Anthropic's own client: `node anthropic.mjs URL KEY MODEL`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const asked = { model, max_tokens: 32, messages: [{ role: "user", content: "Tell me a story" }], temperature: 0 };
const tool = { name: "get_time", description: "Tells the time.", input_schema: { type: "object", properties: {} } };

const whole = await client.messages.create(asked);
assert.equal(whole.role, "assistant");
assert(whole.content[0].text.length > 0);

const stream = client.messages.stream(asked);
let text = "";
stream.on("text", (piece) => (text += piece));
const final = await stream.finalMessage();
assert.equal(text, whole.content[0].text);
assert.deepEqual(final.content, whole.content);
assert.equal(final.stop_reason, whole.stop_reason);
assert.equal(final.usage.output_tokens, whole.usage.output_tokens);

const call = await client.messages
  .stream({ ...asked, tools: [tool], tool_choice: { type: "tool", name: "get_time" }, max_tokens: 128 })
  .finalMessage();
assert.equal(call.content.at(-1).type, "tool_use");
assert.equal(call.content.at(-1).name, "get_time");
assert.equal(typeof call.content.at(-1).input, "object");

const { max_tokens, temperature, ...counted } = asked;
const count = await client.messages.countTokens(counted);
assert.equal(count.input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);

await assert.rejects(
  client.messages.create({ ...asked, model: "nope" }),
  (error) => error instanceof Anthropic.NotFoundError && error.error.error.type === "not_found_error" && error.requestID.startsWith("req_"),
);
await assert.rejects(
  new Anthropic({ baseURL, apiKey: "wrong", maxRetries: 0 }).messages.create(asked),
  (error) => error instanceof Anthropic.AuthenticationError,
);
console.log("ok");
