// Image scenarios with openai-node: `node openai_images.mjs SCENARIO URL KEY MODEL`. A failed assertion is a failed test.
import assert from "node:assert/strict";
import { crc32, deflateSync } from "node:zlib";
import OpenAI, { toFile } from "openai";

const [scenario, url, key, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const side = 64;
const prompt = "a red circle on a blue background";
const asked = { model, prompt, size: `${side}x${side}`, seed: 7, steps: 4 };

// A picture of one colour; the hole in it is transparent.
const png = ([left, top, right, bottom] = [0, 0, 0, 0]) => {
  const rows = Buffer.alloc(side * (1 + side * 4));
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const inside = left <= x && x < right && top <= y && y < bottom;
      rows.set([0x20, 0x80, 0xe0, inside ? 0 : 0xff], y * (1 + side * 4) + 1 + x * 4);
    }
  const number = (value) => {
    const four = Buffer.alloc(4);
    four.writeUInt32BE(value);
    return four;
  };
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    return Buffer.concat([number(data.length), body, number(crc32(body))]);
  };
  const head = Buffer.concat([number(side), number(side), Buffer.from([8, 6, 0, 0, 0])]);
  const magic = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([magic, chunk("IHDR", head), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
};
const file = (data) => toFile(data, "a.png", { type: "image/png" });
const check = (encoded) => {
  const data = Buffer.from(encoded, "base64");
  assert.equal(data.subarray(1, 4).toString(), "PNG");
  assert.deepEqual([data.readUInt32BE(16), data.readUInt32BE(20)], [side, side]);
};
const refused = (call, param) =>
  assert.rejects(call, (error) => error instanceof OpenAI.BadRequestError && error.param === param);
const collect = async (stream) => {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
};

const scenarios = {
  async generate() {
    const answer = await client.images.generate({ ...asked, n: 2 });
    assert.equal(answer.data.length, 2);
    answer.data.forEach((image) => check(image.b64_json));
    assert.notEqual(answer.data[0].b64_json, answer.data[1].b64_json);
    assert.equal(answer.size, `${side}x${side}`);
    assert(answer.usage.total_tokens > 0);
    const again = await client.images.generate({ ...asked, seed: 8 });
    assert.equal(again.data[0].b64_json, answer.data[1].b64_json);
  },
  async stream() {
    const whole = await client.images.generate(asked);
    const events = await collect(await client.images.generate({ ...asked, stream: true, partial_images: 2 }));
    assert.deepEqual(
      events.map((event) => [event.type, event.partial_image_index]),
      [
        ["image_generation.partial_image", 0],
        ["image_generation.partial_image", 1],
        ["image_generation.completed", undefined],
      ],
    );
    events.forEach((event) => check(event.b64_json));
    assert.equal(events[2].b64_json, whole.data[0].b64_json);
  },
  async edit() {
    const given = { model, prompt, seed: 7, steps: 4 };
    const whole = await client.images.edit({ ...given, image: await file(png()) });
    check(whole.data[0].b64_json);
    const listed = await client.images.edit({ ...given, image: [await file(png())] });
    assert.equal(listed.data[0].b64_json, whole.data[0].b64_json);
    const mask = await file(png([16, 16, 40, 40]));
    const masked = await client.images.edit({ ...given, image: await file(png()), mask });
    assert.notEqual(masked.data[0].b64_json, whole.data[0].b64_json);
    const stream = await client.images.edit({ ...given, image: await file(png()), stream: true, partial_images: 1 });
    const events = await collect(stream);
    assert.deepEqual(events.map((event) => event.type), ["image_edit.partial_image", "image_edit.completed"]);
    assert.equal(events[1].b64_json, whole.data[0].b64_json);
  },
  async variation() {
    const answer = await client.images.createVariation({ model, image: await file(png()), n: 2, seed: 7, steps: 4 });
    assert.equal(answer.data.length, 2);
    answer.data.forEach((image) => check(image.b64_json));
  },
  async errors() {
    await refused(client.images.generate({ ...asked, size: "65x64" }), "size");
    await refused(client.images.generate({ ...asked, n: 11, stream: true }), "n");
    await refused(client.images.generate({ ...asked, response_format: "url" }), "response_format");
    await refused(client.images.edit({ model, prompt, image: await file(Buffer.from("no picture")) }), "image");
    await refused(client.images.edit({ model, prompt, image: await file(png()), mask: await file(png()) }), "mask");
    await assert.rejects(
      client.images.generate({ model: "nope", prompt }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
  },
};

for (const name of scenario === "all" ? Object.keys(scenarios) : [scenario]) {
  await scenarios[name]();
  console.log("ok", name);
}
