// Scenarios with openai-node: `node openai.mjs SCENARIO URL KEY`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const script = process.argv[1];
const [scenario, url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const model = "penstock-starter";
const embedder = "all-minilm-l6-v2";
const hello = [{ role: "user", content: "Hello!" }];
const story = [{ role: "user", content: "Tell me a story" }];

const scenarios = {
  async models() {
    const ids = [];
    for await (const entry of client.models.list()) ids.push(entry.id);
    assert(ids.includes(model) && ids.includes("org/starter"), ids.join());
    assert.equal((await client.models.retrieve("org/starter")).id, "org/starter");
  },
  async chat() {
    const answer = await client.chat.completions.create({ model, messages: hello, temperature: 0 });
    assert(answer.choices[0].message.content.length > 0);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },
  async stream() {
    const whole = await client.chat.completions.create({ model, messages: story, temperature: 0 });
    const stream = await client.chat.completions.create({ model, messages: story, temperature: 0, stream: true });
    let text = "";
    let roles = 0;
    let finish;
    for await (const chunk of stream) {
      text += chunk.choices[0].delta.content ?? "";
      if (chunk.choices[0].delta.role) roles++;
      finish = chunk.choices[0].finish_reason ?? finish;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(roles, 1);
    assert.equal(finish, "stop");
  },
  async completions() {
    const request = { model, prompt: "Once upon", max_tokens: 6, temperature: 0 };
    const whole = await client.completions.create(request);
    let text = "";
    for await (const part of await client.completions.create({ ...request, stream: true })) text += part.choices[0].text;
    assert.equal(text, whole.choices[0].text);
  },
  async errors() {
    await assert.rejects(
      new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 }).models.list(),
      (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key",
    );
    await assert.rejects(
      client.chat.completions.create({ model: "nope", messages: hello }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
    await assert.rejects(
      client.chat.completions.create({ model, messages: hello, temperature: "hot" }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature" && error.code === "invalid_type",
    );
  },
  async options() {
    const request = { model, messages: story, n: 2, seed: 3, max_tokens: 8, logprobs: true, top_logprobs: 2 };
    const [first, second] = [await client.chat.completions.create(request), await client.chat.completions.create(request)];
    assert.deepEqual(first.choices.map((c) => c.message.content), second.choices.map((c) => c.message.content));
    assert.equal(first.choices[0].logprobs.content[0].top_logprobs.length, 2);
    const cut = await client.chat.completions.create({ model, messages: story, temperature: 0, stop: ["a"] });
    assert(!cut.choices[0].message.content.includes("a"));
  },
  async disconnect() {
    const queue = async () => {
      const answer = await fetch(`${url}/queue/status`, { headers: { authorization: `Bearer ${key}` } });
      assert.equal(answer.status, 200);
      return answer.json();
    };
    const before = (await queue()).completed_jobs_24h;
    const request = { model, messages: story, stream: true, max_tokens: 1900, ignore_eos: true };
    const stream = await client.chat.completions.create(request);
    for await (const _ of stream) break;
    stream.controller.abort();
    for (let tries = 0; (await queue()).queue_depth; tries++) {
      assert(tries < 1200);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.equal((await queue()).completed_jobs_24h, before); // it was not written to its end
    assert((await client.chat.completions.create({ model, messages: hello, max_tokens: 2 })).choices.length);
    assert.equal((await queue()).completed_jobs_24h, before + 1);
  },
  async embeddings() {
    const input = ["The sky on Mars is red.", "The sea is deep."];
    const answer = await client.embeddings.create({ model: embedder, input }); // asks for base64, and decodes it
    const numbers = await client.embeddings.create({ model: embedder, input, encoding_format: "float" });
    assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
    for (const [i, item] of answer.data.entries()) {
      assert.equal(item.embedding.length, 384);
      assert(Math.abs(Math.hypot(...item.embedding) - 1) < 1e-3);
      item.embedding.forEach((value, j) => assert(Math.abs(value - numbers.data[i].embedding[j]) < 1e-6));
    }
    assert.equal(answer.usage.prompt_tokens, answer.usage.total_tokens);
    const raw = await client.embeddings.create({ model: embedder, input, encoding_format: "base64" });
    assert.equal(typeof raw.data[0].embedding, "string");
    await assert.rejects(
      client.embeddings.create({ model: embedder, input: ["a", ""] }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "input[1]",
    );
    await assert.rejects(
      client.embeddings.create({ model: embedder, input, dimensions: 0 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "dimensions",
    );
  },
  async vectorStores() {
    const stores = client.vectorStores;
    const made = await stores.create({ name: "node", metadata: { team: "a" } });
    assert.equal(made.object, "vector_store");
    assert.equal((await stores.retrieve(made.id)).name, "node");
    assert.equal((await stores.update(made.id, { name: "node 2" })).name, "node 2");
    const ids = [];
    for await (const store of stores.list({ limit: 1 })) ids.push(store.id);
    assert(ids.includes(made.id));
    assert.deepEqual((await stores.search(made.id, { query: ["anything", "else"] })).data, []);
    assert.deepEqual((await stores.files.list(made.id)).data, []);
    assert.equal((await stores.delete(made.id)).deleted, true);
    await assert.rejects(stores.retrieve(made.id), OpenAI.NotFoundError);
  },
  async files() {
    const lines = '{"messages":[]}\n'.repeat(50);
    // This client sends the file first, and what it is for behind it.
    const made = await client.files.create({
      file: await toFile(Buffer.from(lines), "lines.jsonl"),
      purpose: "fine-tune",
      expires_after: { anchor: "created_at", seconds: 3600 },
    });
    assert.equal(made.filename, "lines.jsonl");
    assert.deepEqual([made.purpose, made.bytes, made.status], ["fine-tune", lines.length, "processed"]);
    assert.equal(made.expires_at, made.created_at + 3600);
    assert.deepEqual(await client.files.retrieve(made.id), made);
    assert.equal(await (await client.files.content(made.id)).text(), lines);
    const streamed = await client.files.create({ file: createReadStream(script), purpose: "user_data" });
    assert.equal(await (await client.files.content(streamed.id)).text(), readFileSync(script, "utf8"));
    const ids = [];
    for await (const file of client.files.list({ limit: 1 })) ids.push(file.id);
    assert(ids.indexOf(streamed.id) < ids.indexOf(made.id) && ids.includes(streamed.id));
    const store = await client.vectorStores.create({ name: "node files" });
    const attached = await client.vectorStores.files.createAndPoll(store.id, { file_id: made.id });
    assert.deepEqual([attached.id, attached.status], [made.id, "completed"]);
    await client.vectorStores.delete(store.id);
    await assert.rejects(
      client.files.create({ file: await toFile(Buffer.from("x"), "x"), purpose: "search" }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "purpose",
    );
    for (const id of [made.id, streamed.id]) assert.equal((await client.files.delete(id)).deleted, true);
    await assert.rejects(client.files.retrieve(made.id), OpenAI.NotFoundError);
    await assert.rejects(client.files.content(made.id), OpenAI.NotFoundError);
  },
};

for (const name of scenario === "all" ? Object.keys(scenarios) : [scenario]) {
  await scenarios[name]();
  console.log("ok", name);
}
