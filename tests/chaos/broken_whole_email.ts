// Broken variants of the service that break a promise only to emails with copies, headers, tags, files or `send_at`.

import type { Variant } from "./broken_variants.ts";

/** A low rate of requests makes batches large. */
const largeBatches = {
  oneSender: true,
  faults: [{ do: "kill", component: "worker" }],
  pauseMs: [800, 1200],
} as const satisfies Variant["under"];

/** Long enough for files to expire. */
const providersDown = {
  faults: [
    { do: "providerDown", name: "resend", forMs: [2500, 2500] },
    { do: "providerDown", name: "postmark", forMs: [2500, 2500] },
  ],
  lanes: 2,
  pauseMs: [50, 100],
} as const satisfies Variant["under"];

const differs = /corrupt/;
const filesLeft = /bytes of files instead of/;

export const wholeEmailVariants: readonly Variant[] = [
  {
    name: "sends files in batches to Resend",
    store: "redis",
    patches: [
      { file: "lib/providers/resend.ts", from: "batchesFiles: false,", to: "batchesFiles: true," },
      {
        file: "lib/providers/resend.ts",
        from: "const withFiles = emails.find(({ email }) => hasFiles(email));",
        to: "const withFiles = emails.length === 1 && hasFiles(emails[0].email) ? emails[0] : undefined;",
      },
      {
        file: "lib/providers/resend.ts",
        from: "emails.map(messageOf)",
        to: "emails.map((one) => (hasFiles(one.email) ? messageWithFiles(one) : messageOf(one)))",
      },
    ],
    under: { ...largeBatches, settings: { PROVIDERS: "resend:1" }, resend: { rateLimit: 5 } },
    caughtAs: /corrupt: .*dropped in a batch/,
  },
  {
    name: "swaps the files of two emails",
    store: "redis",
    patches: [
      {
        file: "lib/worker/file_reader.ts",
        from: "  return { emails: whole, lost };",
        to: [
          "  const [a, b] = whole.filter(({ files }) => files?.length === 1);",
          "  if (b !== undefined) [a.files, b.files] = [b.files, a.files];",
          "  return { emails: whole, lost };",
        ].join("\n"),
      },
    ],
    under: { ...largeBatches, settings: { PROVIDERS: "postmark:1" }, postmark: { rateLimit: 5 } },
    caughtAs: differs,
  },
  {
    name: "writes Bcc into a header",
    store: "redis",
    patches: [
      {
        file: "lib/providers/postmark.ts",
        from: '...(bcc !== undefined && { Bcc: bcc.join(", ") }),',
        to: '...(bcc !== undefined && { Bcc: bcc.join(", "), Headers: [{ Name: "Bcc", Value: bcc.join(", ") }] }),',
      },
    ],
    under: { ...largeBatches, settings: { PROVIDERS: "postmark:1" } },
    caughtAs: /corrupt: .*headers/,
  },
  {
    name: "claims a scheduled email early",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/submit.lua",
        from: "local sends_at = extra and extra.sendAtMs or at",
        to: "local sends_at = at",
      },
    ],
    under: largeBatches,
    caughtAs: /sent before their time/,
  },
  {
    name: "claims a scheduled email early",
    store: "embedded",
    patches: [
      {
        file: "lib/queue/sqlite/lists.ts",
        from: "sendAtMs > atMs ? [scheduledList, Math.ceil(sendAtMs)] : [anyProvider, atMs];",
        to: "[anyProvider, atMs];",
      },
    ],
    under: largeBatches,
    caughtAs: /sent before their time/,
  },
  {
    name: "lets the files of stored emails expire",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/parts/files.lua",
        from: "  call('PERSIST', 'files:' .. id)\n",
        to: "",
      },
      {
        file: "lib/queue/file_pieces.ts",
        from: 'export { knownMinMs as piecesKeptMs } from "./contract.ts";',
        to: "export const piecesKeptMs = 1000;",
      },
    ],
    under: providersDown,
    caughtAs: /wrongly dead|lost|stuck/,
  },
  {
    name: "keeps the files of sent emails",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/parts/files.lua",
        from: "    if size then\n",
        to: "    if size and false then\n",
      },
    ],
    under: largeBatches,
    caughtAs: filesLeft,
  },
  {
    name: "gives whole emails to a worker of the adjacent release",
    store: "redis",
    patches: [
      {
        file: "lib/queue/redis/scripts/submit.lua",
        from: "is_ahead and scheduled or extra and hidden_due or due",
        to: "is_ahead and scheduled or due",
      },
    ],
    under: { ...largeBatches, previousWorkers: 1 },
    caughtAs: differs,
  },
  {
    name: "gives whole emails to a worker of the adjacent release",
    store: "embedded",
    patches: [
      {
        file: "lib/queue/sqlite/producer.ts",
        from: "if (one.isHidden === true) addHidden",
        to: "if (one.files !== undefined) addHidden",
      },
    ],
    under: { ...largeBatches, previousWorkers: 1 },
    caughtAs: differs,
  },
];
