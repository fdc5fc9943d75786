// A client made from the .proto alone: node client.js ADDRESS PROTO_DIRECTORY
//
// Asks, stores, finds the answer again by the identical and by a similar question, deletes it, and
// asks once more. Prints one line of JSON; ends with status 1 and a reason when an answer is wrong.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");

const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const CALL_MS = 5000;
const NAMESPACE = "node-client";
const QUESTION = "How do I reset my password?";
const SIMILAR = "How can I reset my password?";
// Not UTF-8, and with a zero inside: what comes back must be these bytes and no text.
const ANSWER = Buffer.from([0x00, 0xff, 0xfe, 0x80, 0x0a, 0x0d, 0x7f, 0x00, 0xc3, 0x28]);

async function main([address, protoDirectory]) {
  if (!address || !protoDirectory) {
    throw new Error("usage: node client.js ADDRESS PROTO_DIRECTORY");
  }
  const { CacheService } = load(path.resolve(protoDirectory));
  const client = new CacheService(address, grpc.credentials.createInsecure());
  try {
    console.log(JSON.stringify(await converse(caller(client))));
  } finally {
    client.close();
  }
}

function load(protoDirectory) {
  const definition = protoLoader.loadSync(path.join(protoDirectory, "cachesvc/v1/cache.proto"), {
    includeDirs: [protoDirectory],
    keepCase: true,
    longs: String,
    enums: String,
    oneofs: true,
  });
  return grpc.loadPackageDefinition(definition).cachesvc.v1;
}

function caller(client) {
  return (method, request) =>
    new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + CALL_MS };
      client[method](request, options, (error, reply) => (error ? reject(error) : resolve(reply)));
    });
}

async function converse(call) {
  const ask = (prompt) =>
    call("Lookup", { namespace: NAMESPACE, prompt, model: "node-model", vary: { locale: "en" } });

  const miss = await ask(QUESTION);
  assert.equal(miss.outcome, "OUTCOME_MISS_EMPTY");
  assert.ok(!miss.entry, "a miss carries no entry");
  assert.match(miss.lookup_id, /./, "a miss carries a lookup_id");

  const stored = await call("Store", {
    lookup_id: miss.lookup_id,
    response: ANSWER,
    content_type: "application/x-answer",
    metadata: { origin: "node" },
    tags: ["account"],
    sources: [{ id: "help/passwords", version: "7" }],
    usage: { input_tokens: 12, output_tokens: 34 },
    cost_usd: 0.0005,
  });
  assert.match(stored.entry_id, /./);
  assert.equal(stored.semantic, true, stored.reason);

  const exact = await ask(QUESTION);
  assert.equal(exact.outcome, "OUTCOME_HIT_EXACT");
  assert.equal(exact.score, 1);
  checkEntry(exact.entry, stored.entry_id);

  const semantic = await ask(SIMILAR);
  assert.equal(semantic.outcome, "OUTCOME_HIT_SEMANTIC", `best score ${semantic.best_score}`);
  assert.ok(semantic.score < 1 && semantic.score >= semantic.threshold, `score ${semantic.score}`);
  checkEntry(semantic.entry, stored.entry_id);

  const removed = await call("Delete", { namespace: NAMESPACE, id: stored.entry_id });
  assert.equal(removed.deleted, true);
  const gone = [await ask(QUESTION), await ask(SIMILAR)];
  for (const reply of gone) {
    assert.match(reply.outcome, /^OUTCOME_MISS_/);
  }

  const refused = await call("Lookup", { namespace: "Not A Namespace", prompt: QUESTION }).then(
    () => assert.fail("a namespace with capitals and blanks was accepted"),
    (error) => error,
  );
  assert.equal(refused.code, grpc.status.INVALID_ARGUMENT, refused.message);
  // google.rpc.Status with google.rpc.BadRequest, serialised; the name of the field is plain in it.
  const details = Buffer.concat(refused.metadata.get("grpc-status-details-bin"));
  assert.ok(details.includes("google.rpc.BadRequest") && details.includes("namespace"));

  return {
    outcomes: [miss, exact, semantic, ...gone].map((reply) => reply.outcome),
    semantic_score: semantic.score,
    refused: grpc.status[refused.code],
    node: process.version,
  };
}

function checkEntry(entry, id) {
  assert.equal(entry.id, id);
  assert.ok(Buffer.isBuffer(entry.response) && entry.response.equals(ANSWER), "the bytes that were stored");
  assert.equal(entry.content_type, "application/x-answer");
  assert.deepEqual({ ...entry.metadata }, { origin: "node" });
  assert.deepEqual(entry.tags, ["account"]);
  assert.deepEqual(entry.sources.map((source) => ({ ...source })), [{ id: "help/passwords", version: "7" }]);
  assert.deepEqual({ ...entry.usage }, { input_tokens: "12", output_tokens: "34" });
  assert.equal(entry.cost_usd, 0.0005);
  assert.equal(entry.prompt, QUESTION);
  assert.equal(entry.model, "node-model");
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.stack);
  process.exitCode = 1;
});
