// The openai npm package in each of its ways: prints as JSON what each case received.
import OpenAI from "openai";

const [baseURL, cases] = process.argv.slice(2);
const parameters = { type: "object", properties: {}, required: [], additionalProperties: false };
const nested = (names = []) => names.map((name) => ({ type: "function", function: { name, parameters } }));
const flat = (names = []) => names.map((name) => ({ type: "function", name, parameters, strict: true }));
const given = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value && value.length !== 0));
const read = (calls = []) => calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);

const ways = {
  async raw(client, { model, messages, tools, usage }, told, options) {
    const asked = { model, messages, stream: true, ...given({ tools: nested(tools) }) };
    if (usage) asked.stream_options = { include_usage: true };
    for await (const chunk of await client.chat.completions.create(asked, options)) {
      told.usage = chunk.usage?.total_tokens ?? told.usage;
      for (const { delta, finish_reason: finish } of chunk.choices) {
        told.text += delta.content ?? "";
        told.tools.push(...read(delta.tool_calls));
        told.finish = finish ?? told.finish;
      }
    }
  },
  async accumulated(client, { model, messages, tools, usage }, told, options) {
    const asked = { model, messages, ...given({ tools: nested(tools) }) };
    if (usage) asked.stream_options = { include_usage: true };
    const stream = client.chat.completions.stream(asked, options);
    stream.on("content", (text) => (told.text += text));
    const completion = await stream.finalChatCompletion();
    told.tools = read(completion.choices[0].message.tool_calls);
    told.finish = completion.choices[0].finish_reason;
    told.usage = completion.usage?.total_tokens ?? null;
  },
  async responses(client, { model, messages, tools }, told, options) {
    const stream = client.responses.stream({ model, input: messages, ...given({ tools: flat(tools) }) }, options);
    for await (const event of stream) told.text += event.type === "response.output_text.delta" ? event.delta : "";
    const response = await stream.finalResponse();
    const calls = response.output.filter(({ type }) => type === "function_call");
    told.tools = calls.map((call) => [call.name, JSON.parse(call.arguments)]);
    told.finish = calls.length ? "tool_calls" : "stop";
    told.usage = response.usage?.total_tokens ?? null;
  },
};

async function ask(way, one) {
  const told = { text: "", tools: [], finish: null, usage: null, error: null };
  const client = new OpenAI({ baseURL, apiKey: "k", maxRetries: 0, defaultHeaders: one.headers });
  const leaving = one.leave_after ? AbortSignal.timeout(one.leave_after * 1000) : undefined;
  const began = performance.now();
  try {
    await ways[way](client, one, told, { signal: leaving });
  } catch (error) {
    if (!leaving?.aborted) told.error = `${error.status ?? ""} ${error.message}`.trim();
  }
  told.seconds = Math.round(performance.now() - began) / 1000;
  return told;
}

const left = {};
for (const way of Object.keys(ways)) {
  for (const one of JSON.parse(cases)) left[`${way}/${one.name}`] = await ask(way, one);
}
console.log(JSON.stringify(left));
