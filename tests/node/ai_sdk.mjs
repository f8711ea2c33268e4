// The AI SDK's providers against the server: prints as JSON what each case received.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, streamText, tool } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false; // warnings would go to stdout, where only the result belongs

// The arguments: the base URL, the cases, and the providers. `compatible,chat` leaves out the Responses API.
const [baseURL, cases, providers = "compatible,chat,responses"] = process.argv.slice(2);
const settings = ({ headers }) => ({ baseURL, apiKey: "k", headers });
const model = {
  compatible: (one) => createOpenAICompatible({ name: "x", includeUsage: !!one.usage, ...settings(one) })(one.model),
  chat: (one) => createOpenAI(settings(one)).chat(one.model),
  responses: (one) => createOpenAI(settings(one))(one.model),
};

// Return OpenAI's messages in the form of the SDK.
function converted(messages) {
  const names = {};
  return messages.map(({ role, content, tool_calls: calls = [], tool_call_id: toolCallId }) => {
    if (role === "tool") {
      const output = { type: "text", value: content };
      return { role, content: [{ type: "tool-result", toolCallId, toolName: names[toolCallId], output }] };
    }
    if (!calls.length) return { role, content };
    const parts = content ? [{ type: "text", text: content }] : [];
    for (const { id, function: { name, arguments: input } } of calls) {
      names[id] = name;
      parts.push({ type: "tool-call", toolCallId: id, toolName: name, input: JSON.parse(input) });
    }
    return { role, content: parts };
  });
}

async function ask(provider, one) {
  const told = { text: "", tools: [], finish: null, usage: null, error: null };
  const inputSchema = jsonSchema({ type: "object", properties: {} });
  const failed = ({ statusCode, name, message }) => {
    if (!leaving?.aborted) told.error ??= [statusCode, name, message].filter(Boolean).join(": ");
  };
  const silence = one.timeout && one.timeout * 1000;
  const leaving = one.leave_after ? AbortSignal.timeout(one.leave_after * 1000) : undefined;
  const began = performance.now();
  try {
    const { stream } = streamText({
      model: model[provider](one),
      messages: converted(one.messages),
      allowSystemInMessages: true,
      tools: one.tools && Object.fromEntries(one.tools.map((name) => [name, tool({ inputSchema })])),
      maxRetries: one.retries ?? 0,
      timeout: silence && { firstChunkMs: silence, chunkMs: silence },
      abortSignal: leaving,
      onError() {}, // the default prints to stderr; the stream also has the error
    });
    for await (const part of stream) {
      if (part.type === "text-delta") told.text += part.text;
      if (part.type === "tool-call") told.tools.push([part.toolName, part.input]);
      if (part.type === "error") failed(part.error);
      if (part.type === "abort") failed({ name: "abort", message: String(part.reason) }); // the timeout of the SDK or of this script
      if (part.type === "finish") {
        told.finish = part.finishReason;
        told.usage = part.totalUsage.totalTokens ?? null;
      }
    }
  } catch (error) {
    failed(error);
  }
  told.seconds = Math.round(performance.now() - began) / 1000;
  return told;
}

const left = {};
for (const provider of providers.split(",")) {
  for (const one of JSON.parse(cases)) left[`${provider}/${one.name}`] = await ask(provider, one);
}
console.log(JSON.stringify(left));
