// Fine-tuning with openai-node: `node openai_fine_tuning.mjs SCENARIO URL KEY`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";

const [scenario, url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 120_000 });
const jobs = client.fineTuning.jobs;
const model = "penstock-starter";
const waitMs = 1_500_000;
const lines = [...Array(8).keys()].map((n) => ({
  messages: [
    { role: "user", content: `What is ${n}?` },
    { role: "assistant", content: `It is ${n}.` },
  ],
}));
const method = { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } };

const upload = async (examples) => {
  const text = examples.map((example) => `${JSON.stringify(example)}\n`).join("");
  const file = await toFile(Buffer.from(text), "lines.jsonl");
  return (await client.files.create({ file, purpose: "fine-tune" })).id;
};

const until = async (id, wanted) => {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const job = await jobs.retrieve(id);
    if (job.status === wanted) return job;
    assert(!["succeeded", "failed", "cancelled"].includes(job.status), JSON.stringify(job));
    assert(Date.now() < deadline, JSON.stringify(job));
    await sleep(300);
  }
};

const all = async (pages) => {
  const found = [];
  for await (const item of await pages) found.push(item);
  return found;
};

const streamed = (id, query = {}) =>
  all(client.get(`/fine_tuning/jobs/${id}/events`, { query: { stream: true, ...query }, stream: true, timeout: waitMs }));

const refused = (call, kind, facts) =>
  assert.rejects(call, (error) => {
    assert(error instanceof kind, String(error));
    for (const [name, value] of Object.entries(facts)) assert.equal(error[name], value, error.message);
    return true;
  });

const listing = async () => {
  const file = await upload(lines);
  const mark = file.slice(-12);
  const long = { type: "supervised", supervised: { hyperparameters: { n_epochs: 50, batch_size: 1 } } };
  const ids = [];
  for (const number of ["0", "1", "2"])
    ids.push((await jobs.create({ model, training_file: file, method: long, metadata: { mark, number } })).id);
  const newest = [...ids].reverse();
  const listed = (await all(jobs.list({ limit: 2 }))).map((job) => job.id);
  assert.deepEqual(listed.filter((id) => ids.includes(id)), newest);
  assert.deepEqual((await all(jobs.list({ metadata: { mark }, limit: 1 }))).map((job) => job.id), newest);
  assert.deepEqual((await all(jobs.list({ metadata: { mark, number: "1" } }))).map((job) => job.id), [ids[1]]);
  assert.equal((await jobs.pause(ids[2])).status, "paused");
  assert(["validating_files", "queued"].includes((await jobs.resume(ids[2])).status));
  for (const id of newest) await jobs.cancel(id);
  for (const id of ids) assert.equal((await until(id, "cancelled")).fine_tuned_model, null);
  await refused(jobs.resume(ids[0]), OpenAI.BadRequestError, { type: "invalid_request_error" });
  assert.equal((await client.files.delete(file)).deleted, true);
};

const scenarios = {
  async events() {
    const file = await upload(lines);
    const job = await jobs.create({ model, training_file: file, method, suffix: "node" });
    assert.equal(job.object, "fine_tuning.job");
    await listing(); // of jobs that wait, while this one has the only place
    const told = await streamed(job.id);
    const ended = await jobs.retrieve(job.id);
    assert.equal(ended.status, "succeeded", JSON.stringify(ended));
    assert(ended.fine_tuned_model.startsWith(`ft:${model}:local:node:`));
    assert.deepEqual((await all(jobs.listEvents(job.id, { limit: 3 }))).reverse(), told);
    assert.deepEqual(await streamed(job.id, { after: told[0].id }), told.slice(1));
    assert.equal(told.filter((event) => event.type === "metrics").at(-1).data.step, 2);
    const checkpoints = await all(jobs.checkpoints.list(job.id, { limit: 1 }));
    assert.deepEqual(checkpoints.map((each) => each.step_number), [2]);
    assert.equal((await client.models.delete(ended.fine_tuned_model)).deleted, true);
    assert.equal((await client.files.delete(file)).deleted, true);
  },
  async errors() {
    const file = await upload(lines);
    const create = (changes) => jobs.create({ model, training_file: file, ...changes });
    await refused(create({ hyperparameters: { n_epochs: 0 } }), OpenAI.BadRequestError, {
      param: "hyperparameters.n_epochs",
      code: "integer_below_min_value",
    });
    await refused(create({ method: { type: "reinforcement" } }), OpenAI.BadRequestError, {
      param: "method.type",
      code: "unsupported_parameter",
    });
    await refused(create({ model: "nobody" }), OpenAI.NotFoundError, { param: "model", code: "model_not_found" });
    await refused(create({ training_file: "file-none" }), OpenAI.NotFoundError, { param: "training_file" });
    await refused(jobs.retrieve("ftjob-none"), OpenAI.NotFoundError, { code: "fine_tune_not_found" });
    await refused(streamed("ftjob-none"), OpenAI.NotFoundError, { code: "fine_tune_not_found" });
    assert.equal((await client.files.delete(file)).deleted, true);
  },
};

for (const name of scenario === "all" ? Object.keys(scenarios) : [scenario]) {
  await scenarios[name]();
  console.log("ok", name);
}
