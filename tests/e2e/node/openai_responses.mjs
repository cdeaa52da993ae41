// Responses with openai-node: `node openai_responses.mjs SCENARIO URL KEY`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [scenario, url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const model = "penstock-starter";
const schema = {
  type: "object",
  properties: { name: { enum: ["red", "green"] }, sure: { type: "boolean" } },
  required: ["name", "sure"],
  additionalProperties: false,
};
const weather = {
  type: "function",
  name: "get_weather",
  description: "Gets the weather of a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  strict: true,
};

const scenarios = {
  async create() {
    const response = await client.responses.create({ model, input: "Hello!", temperature: 0 });
    assert.equal(response.status, "completed");
    assert(response.output_text.length > 0);
    assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
  },
  async stream() {
    const ask = { model, input: "Tell me a story", temperature: 0 };
    const whole = await client.responses.create(ask);
    let text = "";
    let next = 0;
    let last;
    for await (const event of await client.responses.create({ ...ask, stream: true })) {
      assert.equal(event.sequence_number, next++);
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(last.type, "response.completed");
    assert.equal(text, whole.output_text);
    const helped = client.responses.stream(ask);
    let told = "";
    helped.on("response.output_text.delta", (event) => (told += event.delta));
    const final = await helped.finalResponse();
    assert.equal(told, text);
    assert.equal(final.output_text, text);
  },
  async parse() {
    const response = await client.responses.parse({
      model,
      input: "Which colour?",
      temperature: 0,
      max_output_tokens: 100,
      text: { format: { type: "json_schema", name: "colour", schema, strict: true } },
    });
    const parsed = JSON.parse(response.output_text);
    assert(["red", "green"].includes(parsed.name) && typeof parsed.sure === "boolean", response.output_text);
  },
  async stored() {
    const ask = { model, tools: [weather], temperature: 0, store: true };
    const choice = { type: "function", name: "get_weather" };
    const first = await client.responses.create({ ...ask, input: "What is the weather in Paris?", tool_choice: choice });
    const [call] = first.output;
    assert.equal(call.type, "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const second = await client.responses.create({ ...ask, input: [result], previous_response_id: first.id });
    const ids = [];
    for await (const item of client.responses.inputItems.list(second.id, { limit: 1, order: "asc" })) ids.push(item.id);
    assert.equal(ids.length, 3);
    assert.equal(ids[1], call.id);
    assert.deepEqual((await client.responses.retrieve(first.id)).output, first.output);
    await assert.rejects(client.responses.cancel(first.id), OpenAI.BadRequestError);
    await client.responses.delete(first.id);
    await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
    await assert.rejects(
      client.responses.create({ model, input: "And now?", previous_response_id: second.id }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "previous_response_id",
    );
  },
};

for (const name of scenario === "all" ? Object.keys(scenarios) : [scenario]) {
  await scenarios[name]();
  console.log("ok", name);
}
