// The openai npm package against the server: prints as JSON what each request received.
import OpenAI from "openai";

// The address of a server with the embedded model, and of one whose upstream fails.
const [base, failing] = process.argv.slice(2);
const user = (content) => [{ role: "user", content }];
const client = (graph, server = base) => new OpenAI({ baseURL: `${server}/${graph}/v1`, apiKey: "k", maxRetries: 0 });
const tool = { type: "function", function: { name: "hangup", parameters: { type: "object", properties: {} } } };

async function raw(graph, content, fields = {}, server = base) {
  const told = { text: "", audio: 0, transcript: "", tools: [], finish: null, usage: null, error: null };
  try {
    const stream = await client(graph, server).chat.completions.create({
      model: graph, messages: user(content), stream: true, stream_options: { include_usage: true }, ...fields,
    });
    for await (const chunk of stream) {
      const [choice] = chunk.choices;
      told.usage = chunk.usage?.total_tokens ?? told.usage;
      if (!choice) continue;
      told.text += choice.delta.content ?? "";
      told.transcript += choice.delta.audio?.transcript ?? "";
      told.audio += choice.delta.audio?.data ? Buffer.from(choice.delta.audio.data, "base64").length : 0;
      for (const call of choice.delta.tool_calls ?? []) {
        told.tools.push([call.function.name, JSON.parse(call.function.arguments)]);
      }
      told.finish = choice.finish_reason ?? told.finish;
    }
  } catch (error) {
    told.error = [error.status ?? null, error.code ?? error.error?.code ?? null, error.message];
  }
  return told;
}

async function accumulated(graph, content, fields = {}) {
  const completion = await client(graph).chat.completions
    .stream({ model: graph, messages: user(content), ...fields })
    .finalChatCompletion();
  const { message, finish_reason: finish } = completion.choices[0];
  const tools = (message.tool_calls ?? []).map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
  return { text: message.content, tools, finish };
}

async function whole(graph, content) {
  const completion = await client(graph).chat.completions.create({ model: graph, messages: user(content) });
  return { text: completion.choices[0].message.content, finish: completion.choices[0].finish_reason };
}

console.log(JSON.stringify({
  models: (await client("chat").models.list()).data.map((model) => model.id),
  chat: await raw("chat", "hello"),
  rag: await raw("rag", "Can I bring my dog?"),
  audio: await raw("audio", "How much is the sauna?"),
  hangup: await raw("hangup", "Thanks, bye!", { tools: [tool] }),
  chat_stream: await accumulated("chat", "hello"),
  rag_stream: await accumulated("rag", "Can I bring my dog?"),
  hangup_stream: await accumulated("hangup", "Thanks, bye!", { tools: [tool] }),
  rag_whole: await whole("rag", "Can I bring my dog?"),
  error_before: await raw("chat", "FAIL BEFORE", {}, failing),
  error_after: await raw("chat", "FAIL AFTER", {}, failing),
}));
