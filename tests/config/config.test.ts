import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { type Config, readConfig, type Role } from "../../lib/config/config.ts";
import { masked, secretNames, settingNames, settings } from "../../lib/config/settings.ts";

const enough = { REDIS_URL: "redis://127.0.0.1:6379" };
const token = "token-0123456789";
const enoughForWorker = { ...enough, RESEND_API_KEY: "re_secret" };

function good(env: Record<string, string>, role: Role = "server"): Config {
  const result = readConfig(env, role);
  if (!result.ok) throw new Error(result.message);
  return result.config;
}

function faults(env: Record<string, string>, role: Role = "server"): string[] {
  const result = readConfig(env, role);
  return result.ok ? [] : result.message.split("\n");
}

test("config: the defaults are the documented ones", () => {
  expect(good(enough)).toEqual({
    host: "127.0.0.1",
    port: 3000,
    adminHost: "127.0.0.1",
    webPort: 3003,
    adminPort: 3001,
    admin: { host: "127.0.0.1", port: 3001 },
    allowAnonymous: "0",
    apiTokens: undefined,
    allowedFrom: undefined,
    defaultFrom: undefined,
    defaultFromName: undefined,
    maxBodyBytes: 16_777_216,
    maxAttachmentBacklogBytes: 1_073_741_824,
    submitTimeoutMs: 10_000,
    redisUrl: "redis://127.0.0.1:6379",
    redisPrefix: "reliable-email",
    redisPartitions: undefined,
    redisMinReplicas: 0,
    redisDurability: "verify",
    dataDir: resolve("data"),
    queue: {
      kind: "redis",
      url: "redis://127.0.0.1:6379",
      prefix: "reliable-email",
      partitions: 1,
      minReplicas: 0,
      durability: "verify",
    },
    providers: [],
    resendApiKey: undefined,
    resendBaseUrl: undefined,
    postmarkServerToken: undefined,
    postmarkBaseUrl: undefined,
    postmarkMessageStream: "outbound",
    postmarkSearchWaitMs: 60_000,
    sandboxFaults: undefined,
    providerTimeoutMs: 15_000,
    doubtTimeoutMs: 82_800_000,
    doubtSplitAfterMs: 120_000,
    concurrency: 8,
    retryBaseMs: 1000,
    retryMaxMs: 3_600_000,
    giveUpAfterMs: 259_200_000,
    leaseMs: 60_000,
    retainMs: 86_400_000,
    shutdownTimeoutMs: 25_000,
    signalRepeatMs: 200,
    logLevel: "info",
    secrets: [],
  });
});

test("config: without REDIS_URL the queue is embedded, in DATA_DIR", () => {
  expect(good({}).queue).toEqual({ kind: "sqlite", folder: resolve("data") });
  expect(good({ DATA_DIR: "/var/lib/x/" }).queue).toEqual({ kind: "sqlite", folder: "/var/lib/x" });
});

test("config: an empty value counts as absent, except that it turns the admin port and the web client off", () => {
  const empty = Object.fromEntries(settingNames.map((name) => [name, ""]));
  const { admin: _, ...others } = good(enough);
  expect(good({ ...empty, ...enough, API_TOKENS: "" })).toEqual({
    ...others,
    adminHost: "",
    adminPort: "",
    webPort: "",
  });
});

test.each([
  ["250ms", 250],
  ["10s", 10_000],
  ["1m", 60_000],
] as const)("config: %p is a duration", (text, ms) => {
  expect(good({ ...enough, SUBMIT_TIMEOUT: text }).submitTimeoutMs).toBe(ms);
});

test.each([
  ["1", 1],
  ["512KiB", 524_288],
  ["64MiB", 67_108_864],
  ["2GiB", 2_147_483_648],
  ["1TiB", 1_099_511_627_776],
])("config: %p is a size", (text, bytes) => {
  const small = { ...enough, MAX_BODY_BYTES: "1" };
  expect(good({ ...small, MAX_ATTACHMENT_BACKLOG: text }).maxAttachmentBacklogBytes).toBe(bytes);
});

test("config: 72h is a duration", () => {
  expect(good({ ...enough, GIVE_UP_AFTER: "72h" }).giveUpAfterMs).toBe(259_200_000);
});

test.each(["10", "s", "1.5s", "-1s", "1d", "10 s", "1S", "1e3ms", "0s"])(
  "config: %p is not a duration",
  (text) => {
    expect(faults({ ...enough, SHUTDOWN_TIMEOUT: text })[0]).toStartWith("Cannot start: SHUTDOWN_TIMEOUT ");
  },
);

test.each([
  ["REDIS_MIN_REPLICAS", { REDIS_MIN_REPLICAS: "1" }, "without REDIS_URL"],
  ["REDIS_PARTITIONS", { REDIS_PARTITIONS: "4" }, "without REDIS_URL"],
  ["DATA_DIR", { DATA_DIR: "a\0b" }, "NUL"],
  ["DATA_DIR", { DATA_DIR: '"./data"' }, "wrapped in quotes"],
  ["DATA_DIR", { DATA_DIR: "'/var/lib/x'" }, "wrapped in quotes"],
  ["DATA_DIR", { DATA_DIR: "~/data" }, "begins with ~"],
  ["DATA_DIR", { DATA_DIR: "$HOME/data" }, "variable"],
  ["DATA_DIR", { DATA_DIR: "/var/${NAME}" }, "variable"],
  ["DATA_DIR", { DATA_DIR: "./data\r" }, "white space"],
  ["DATA_DIR", { DATA_DIR: "./data " }, "white space"],
  ["REDIS_URL", { REDIS_URL: "http://a" }, "redis://"],
  ["REDIS_URL", { REDIS_URL: "redis://" }, "redis://"],
  ["REDIS_URL", { REDIS_URL: "Rediss://host" }, "rediss://"],
  ["REDIS_URL", { REDIS_URL: " redis://:password@host" }, "redis://"],
  ["REDIS_URL", { REDIS_URL: "redi\tss://:password@host" }, "redis://"],
  ["REDIS_URL", { REDIS_URL: "redis+cluster://a:1,b:2/1" }, "only one"],
  ["REDIS_URL", { REDIS_URL: "redis+sentinel://a:1" }, "names no primary"],
  ["REDIS_URL", { REDIS_URL: "redis://a/b" }, "database"],
  ["REDIS_URL", { REDIS_URL: "redis://a?enableOfflineQueue=true" }, "options"],
  ["REDIS_URL", { REDIS_URL: "redis://user:p#ss@host" }, "# is %23"],
  ["REDIS_URL", { REDIS_URL: "redis://:pa/ss@host:6379/1" }, "/ is %2F"],
  ["REDIS_URL", { REDIS_URL: "rediss://user:12?4@host" }, "? is %3F"],
  ["REDIS_URL", { REDIS_URL: "redis://:p%ss@host" }, "% is %25"],
  ["REDIS_URL", { REDIS_URL: "redis://:p ss@host" }, "percent-encoded"],
  ["REDIS_URL", { REDIS_URL: "redis+unix://" }, "not of the form"],
  ["REDIS_URL", { REDIS_URL: "redis+unix:///" }, "path of a socket"],
  ["REDIS_URL", { REDIS_URL: "redis+unix://host/a.sock" }, "localhost"],
  ["REDIS_URL", { REDIS_URL: "redis+unix://localhost:1/a.sock" }, "localhost"],
  ["REDIS_URL", { REDIS_URL: "redis+unix:///a.sock?db=x" }, "?db=number"],
  ["REDIS_URL", { REDIS_URL: "redis+unix:///a.sock?db=1&enableOfflineQueue=true" }, "?db=number"],
  ["REDIS_URL", { REDIS_URL: `redis+unix:///${"a".repeat(107)}` }, "over 107 bytes"],
  ["REDIS_URL", { REDIS_URL: "redis+unix://:p/w@localhost/a.sock" }, "/ is %2F"],
  ["REDIS_URL", { REDIS_URL: "redis+unix://:p%w@localhost/a.sock" }, "% is %25"],
  ["REDIS_PREFIX", { REDIS_PREFIX: "a{b}" }, ""],
  ["REDIS_PREFIX", { REDIS_PREFIX: "a b" }, ""],
  ["REDIS_MIN_REPLICAS", { REDIS_MIN_REPLICAS: "-1" }, ""],
  ["REDIS_PARTITIONS", { REDIS_PARTITIONS: "65", REDIS_URL: "redis://a" }, ""],
  ["REDIS_DURABILITY", { REDIS_DURABILITY: "no" }, "verify"],
  ["PORT", { PORT: "65536" }, "65535"],
  ["PORT", { PORT: "0x10" }, ""],
  ["HOST", { HOST: "0.0.0.0" }, "ALLOW_ANONYMOUS=1"],
  ["HOST", { HOST: "::" }, "ALLOW_ANONYMOUS=1"],
  ["HOST", { HOST: "mail.example.org" }, "ALLOW_ANONYMOUS=1"],
  ["HOST", { HOST: "127.0.0.1.example.org" }, "ALLOW_ANONYMOUS=1"],
  ["HOST", { HOST: "a b" }, ""],
  ["ADMIN_HOST", { ADMIN_HOST: "a b" }, "not a host name"],
  ["ADMIN_PORT", { ADMIN_PORT: "65536" }, "65535"],
  ["ADMIN_PORT", { ADMIN_PORT: "-1" }, "65535"],
  ["ADMIN_PORT", { ADMIN_PORT: " " }, "65535"],
  ["ALLOW_ANONYMOUS", { ALLOW_ANONYMOUS: "yes" }, ""],
  ["DEFAULT_FROM", { DEFAULT_FROM: "Ada <ada@example.org>" }, "not an email address"],
  ["DEFAULT_FROM_NAME", { DEFAULT_FROM_NAME: "a\nb" }, "control character"],
  ["DEFAULT_FROM_NAME", { DEFAULT_FROM: "a@example.org", DEFAULT_FROM_NAME: "x".repeat(250) }, "255"],
  ["MAX_BODY_BYTES", { MAX_BODY_BYTES: "0" }, ""],
  ["MAX_BODY_BYTES", { MAX_BODY_BYTES: "1MB" }, ""],
  ["MAX_ATTACHMENT_BACKLOG", { MAX_ATTACHMENT_BACKLOG: "1GB" }, "is not a size"],
  ["MAX_ATTACHMENT_BACKLOG", { MAX_ATTACHMENT_BACKLOG: "1.5GiB" }, "is not a size"],
  ["MAX_ATTACHMENT_BACKLOG", { MAX_ATTACHMENT_BACKLOG: "-1" }, "is not a size"],
  ["MAX_ATTACHMENT_BACKLOG", { MAX_ATTACHMENT_BACKLOG: "0" }, "is too small for the files"],
  ["MAX_ATTACHMENT_BACKLOG", { MAX_ATTACHMENT_BACKLOG: "10000TiB" }, "is too large"],
  ["SUBMIT_TIMEOUT", { SUBMIT_TIMEOUT: "121s" }, "over 120s"],
  ["RETAIN", { RETAIN: "19s" }, "SUBMIT_TIMEOUT"],
  ["LEASE", { LEASE: "29s" }, "PROVIDER_TIMEOUT"],
  ["PROVIDERS", { PROVIDERS: "resend,mailgun" }, "resend, postmark, sandbox, sandbox-2"],
  ["PROVIDERS", { PROVIDERS: "resend:1,resend:2" }, "twice"],
  ["PROVIDERS", { PROVIDERS: "sandbox,sandbox:0" }, "twice"],
  ["PROVIDERS", { PROVIDERS: "resend:1001" }, "1000"],
  ["PROVIDERS", { PROVIDERS: "resend:-1" }, ""],
  ["PROVIDERS", { PROVIDERS: "resend," }, ""],
  ["RESEND_API_KEY", { RESEND_API_KEY: "a b" }, ""],
  ["RESEND_BASE_URL", { RESEND_BASE_URL: "127.0.0.1:80" }, "http://"],
  ["POSTMARK_BASE_URL", { POSTMARK_BASE_URL: "http://u:p@a" }, "password"],
  ["POSTMARK_MESSAGE_STREAM", { POSTMARK_MESSAGE_STREAM: "a b" }, ""],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "explode:10%" }, "unavailable, throttle"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "unavailable" }, "is not a list"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "unavailable:10%," }, "is not a list"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "unavailable: 10%" }, "is not a list"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "Unavailable:10%" }, "is not a list"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "unavailable:10" }, "give unavailable a probability"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "hang:-1%" }, "give hang a probability"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "hang:100.1%" }, "0% to 100%"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "hang:1e1%" }, "give hang a probability"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "hang:.5%" }, "give hang a probability"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "reject:1%,reject:1%" }, "reject twice"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:1s,latency:1s" }, "latency twice"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "unavailable:60%,hang:40.000001%" }, "more than 100% for a request"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "reject:60%,refuse-sender:60%" }, "more than 100% for an email"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:50" }, "50ms-2s"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:10%" }, "50ms-2s"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:1ms-2ms-3ms" }, "50ms-2s"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:2s-50ms" }, "ends before it begins"],
  ["SANDBOX_FAULTS", { SANDBOX_FAULTS: "latency:50ms-61m" }, "over 1h"],
  ["RETRY_MAX", { RETRY_MAX: "25h" }, "over 24h"],
  ["RETRY_BASE", { RETRY_BASE: "2h" }, "RETRY_MAX"],
  ["LEASE", { LEASE: "61m" }, "over 1h"],
  ["DOUBT_TIMEOUT", { DOUBT_TIMEOUT: "1381m" }, "over 23h"],
  ["DOUBT_TIMEOUT", { DOUBT_TIMEOUT: "0s" }, ""],
  ["DOUBT_SPLIT_AFTER", { DOUBT_SPLIT_AFTER: "24h" }, "over 23h"],
  ["SHUTDOWN_TIMEOUT", { SHUTDOWN_TIMEOUT: "600h" }, "over 596h"],
  ["CONCURRENCY", { CONCURRENCY: "0" }, ""],
  ["LOG_LEVEL", { LOG_LEVEL: "trace" }, "debug"],
  ["API_TOKENS", { API_TOKENS: "x".repeat(15) }, "16 to 1024"],
  ["API_TOKENS", { API_TOKENS: "x".repeat(1025) }, "16 to 1024"],
  ["API_TOKENS", { API_TOKENS: `${token},` }, "list of tokens"],
  ["API_TOKENS", { API_TOKENS: `${token},,${token}` }, "list of tokens"],
  ["API_TOKENS", { API_TOKENS: `${token} ${token}` }, "visible ASCII"],
  ["API_TOKENS", { API_TOKENS: `${token}é` }, "visible ASCII"],
  ["API_TOKENS", { API_TOKENS: "," }, "list of tokens"],
  // That the server would be open is not reported as a second error.
  ["API_TOKENS", { HOST: "0.0.0.0", API_TOKENS: "x" }, "list of tokens"],
  ["API_TOKENS_FILE", { HOST: "0.0.0.0", API_TOKENS_FILE: "/nowhere/x" }, "ENOENT"],
  ["ALLOWED_FROM", { ALLOWED_FROM: "example.org" }, "@domains"],
  ["ALLOWED_FROM", { ALLOWED_FROM: "@example.org," }, "@domains"],
  ["ALLOWED_FROM", { ALLOWED_FROM: "*@example.org,@" }, "@domains"],
  ["ALLOWED_FROM", { ALLOWED_FROM: "@*.example.org" }, "@domains"],
  ["ALLOWED_FROM", { ALLOWED_FROM: "@localhost" }, "@domains"],
  ["DEFAULT_FROM", { DEFAULT_FROM: "a@example.org", ALLOWED_FROM: "@sub.example.org" }, "ALLOWED_FROM"],
] as const)("config: %s of %j is refused and named", (name, env, text) => {
  const base = ["REDIS_URL", "REDIS_PARTITIONS", "REDIS_MIN_REPLICAS"].includes(name) ? {} : enough;
  for (const role of ["server", "worker"] as const) {
    const found = faults({ ...base, RESEND_API_KEY: "re_secret", ...env }, role);
    expect(found).toHaveLength(1);
    expect(found[0]).toStartWith(`Cannot start: ${name} `);
    expect(found[0]).toContain(text);
  }
});

test("config: one message reports every error", () => {
  const found = faults(
    { PORT: "x", LEASE: "1s", LOG_LEVEL: "x", ALLOWED_FROM: "x", REDIS_PREFIX: "{" },
    "worker",
  );
  const names = found.map((line) => line.split(" ")[2]);
  expect(names.toSorted()).toEqual([
    "ALLOWED_FROM",
    "LEASE",
    "LOG_LEVEL",
    "PORT",
    "REDIS_PREFIX",
    "RESEND_API_KEY",
  ]);
});

test("config: conflicts between values are reported along with invalid values", () => {
  expect(faults({ SUBMIT_TIMEOUT: "1h", RETAIN: "1s" })).toEqual([
    'Cannot start: SUBMIT_TIMEOUT "1h" is over 120s',
    'Cannot start: RETAIN "1s" is under 2 × SUBMIT_TIMEOUT',
  ]);
  expect(faults({ LEASE: "2h", PROVIDER_TIMEOUT: "3h", RETRY_BASE: "26h", RETRY_MAX: "25h" })).toEqual([
    'Cannot start: RETRY_MAX "25h" is over 24h',
    'Cannot start: LEASE "2h" is over 1h',
    'Cannot start: LEASE "2h" is under 2 × PROVIDER_TIMEOUT',
    'Cannot start: RETRY_BASE "26h" is over RETRY_MAX',
  ]);
  expect(
    faults({
      DEFAULT_FROM: "a@example.org",
      ALLOWED_FROM: "@example.com",
      DEFAULT_FROM_NAME: "x".repeat(250),
    }),
  ).toHaveLength(2);
});

test.each([
  [{}, 7_500_000, ""],
  [{ MAX_BODY_BYTES: "1000000" }, 1_000_000, ""],
  [{ REDIS_PARTITIONS: "64" }, 480_000_000, ", 7500000 for each of 64 partitions"],
  [{ REDIS_URL: "redis+cluster://a:1" }, 30_000_000, ", 7500000 for each of 4 partitions"],
])(
  "config: with %j, the limit of files in the queue has room for the largest email in each partition",
  (more, least, parts) => {
    const limit = (bytes: number) => ({ ...enough, ...more, MAX_ATTACHMENT_BACKLOG: String(bytes) });
    expect(good(limit(least)).maxAttachmentBacklogBytes).toBe(least);
    expect(faults(limit(least - 1))).toEqual([
      `Cannot start: MAX_ATTACHMENT_BACKLOG "${least - 1}" is too small for the files of the largest email: it must be at least ${least}${parts}`,
    ]);
  },
);

test("config: a message shows the value, or the default that it conflicts with", () => {
  expect(faults({ PORT: "80 80", DATA_DIR: "./data\r", PROVIDER_TIMEOUT: "1m" })).toEqual([
    'Cannot start: PORT "80 80" is not a whole number from 0 to 65535',
    'Cannot start: DATA_DIR "./data\\r" ends in white space, perhaps a line ending from Windows',
    'Cannot start: LEASE "60s" is under 2 × PROVIDER_TIMEOUT',
  ]);
  const [long] = faults({ PORT: "9".repeat(10_000) });
  expect(long!.length).toBeLessThan(200);
});

test("config: a value wrapped in quotes is refused for every setting except a display name", () => {
  const names = settingNames.filter((name) => name !== "DEFAULT_FROM_NAME");
  for (const quote of ["'", '"']) {
    for (const name of names) {
      // Long enough for a token, and not refused for any other reason.
      const [first, ...others] = faults({ [name]: `${quote}0123456789012345${quote}` });
      expect(first).toMatch(new RegExp(`^Cannot start: ${name} .*is wrapped in quotes: remove them$`));
      expect(others).toEqual([]);
    }
  }
  expect(faults({ ...enough, RESEND_API_KEY: '"re_secret"' }, "worker")).toEqual([
    "Cannot start: RESEND_API_KEY is wrapped in quotes: remove them",
  ]);
  const DEFAULT_FROM_NAME = '"The Shop"';
  const read = readConfig({ ...enough, DEFAULT_FROM: "a@example.org", DEFAULT_FROM_NAME }, "server");
  expect(read).toMatchObject({
    ok: true,
    config: { defaultFromName: DEFAULT_FROM_NAME },
    warnings: [{ setting: "DEFAULT_FROM_NAME", reason: expect.stringContaining("quotes") }],
  });
});

describe("config: a misspelled setting", () => {
  const warningsFor = (names: readonly string[]) => {
    const read = readConfig(Object.fromEntries(names.map((name) => [name, "the-value"])), "server");
    if (!read.ok) throw new Error(read.message);
    return read.warnings;
  };

  test.each([
    ["API_TOKEN", "API_TOKENS"],
    ["LAESE", "LEASE"],
    ["RESEND_KEY", "RESEND_API_KEY"],
    ["RESEND_KEY_FILE", "RESEND_API_KEY_FILE"],
    ["RESEND_APIKEY", "RESEND_API_KEY"],
    ["POSTMARK_TOKEN", "POSTMARK_SERVER_TOKEN"],
    ["POSTMARK_SEVRER_TOKNE", "POSTMARK_SERVER_TOKEN"],
    ["API_TOKENS_FLIE", "API_TOKENS_FILE"],
    ["REDIS_URI", "REDIS_URL"],
    ["DATADIR", "DATA_DIR"],
    ["data_dir", "DATA_DIR"],
    ["DEFAULT_FORM", "DEFAULT_FROM"],
    ["LOGLEVEL", "LOG_LEVEL"],
    ["PROVIDER", "PROVIDERS"],
    ["DOUBT_TIME_OUT", "DOUBT_TIMEOUT"],
  ])("%s is reported as %s, without its value", (name, meant) => {
    const warnings = warningsFor([name]);
    expect(warnings).toEqual([{ setting: name, reason: `is not a setting: did you mean ${meant}?` }]);
  });

  test("does not match variables of other programs", () => {
    // As found in shells, containers, Kubernetes, CI and application hosts.
    const others =
      "ADMIN ADMIN_EMAIL ALLOWED_HOSTS API_KEY API_URL APP_ENV APP_NAME AWS_ACCESS_KEY_ID AWS_REGION BASE_URL " +
      "BUN_INSTALL CI COLORTERM CONCURRENCY_LIMIT DATABASE_URL DB_HOST DB_PORT DB_URL DEBUG DEFAULT_LOCALE DISPLAY " +
      "DYNO EDITOR EMAIL ENV FORCE_COLOR GIT_AUTHOR_NAME GITHUB_TOKEN GOPATH HISTFILE HISTSIZE HOME HOSTNAME HOSTTYPE " +
      "HTTPS_PROXY HTTP_PROXY INVOCATION_ID JAVA_HOME JOURNAL_STREAM KUBERNETES_PORT KUBERNETES_PORT_443_TCP " +
      "KUBERNETES_SERVICE_HOST LANG LANGUAGE LC_ALL LESS LISTEN_FDS LISTEN_PID LOGNAME LS_COLORS MAIL MAILTO MANAGERPID " +
      "MEMORY_PRESSURE_WATCH NODE_ENV NODE_EXTRA_CA_CERTS NODE_OPTIONS NODE_PATH NO_COLOR NO_PROXY OLDPWD OSTYPE PAGER " +
      "PATH POSTGRES_HOST POSTGRES_PORT POSTMARK_ACCOUNT_TOKEN PORTS POST PS1 PWD PYTHONPATH REDIS_HOST REDIS_PASSWORD " +
      "REDIS_PORT REDIS_PORT_6379_TCP REDIS_SERVICE_HOST REDIS_TLS_URL REDIS_USERNAME RELEASE RUNTIME_DIRECTORY " +
      "SENDGRID_API_KEY SHELL SHLVL SMTP_HOST SMTP_PORT SSH_AUTH_SOCK SSL_CERT_DIR SSL_CERT_FILE STATE_DIRECTORY SUDO_USER " +
      "TERM TMPDIR TZ USER VIRTUAL_HOST VIRTUAL_PORT VISUAL WATCHDOG_USEC XDG_DATA_DIRS XDG_RUNTIME_DIR _ " +
      "npm_config_cache npm_config_user_agent npm_execpath npm_lifecycle_event npm_package_name no_proxy https_proxy " +
      "RESEND_WEBHOOK_SECRET LOG_FILE LOG_FORMAT API_FILE CACHE_DIR DATA_PATH MAX_CONNECTIONS";
    expect(warningsFor(others.split(" "))).toEqual([]);
  });

  test("never matches an existing setting", () => {
    expect(warningsFor([])).toEqual([]);
    const all = Object.fromEntries(
      [...settingNames, ...secretNames.map((name) => `${name}_FILE`)].map((name) => [name, ""]),
    );
    expect(readConfig(all, "server")).toMatchObject({ ok: true, warnings: [] });
  });
});

test("config: a setting is hidden unless its kind declares it public, and partly shown only if its kind says how", () => {
  const { schema } = settings.RESEND_API_KEY.kind;
  expect(masked({ schema }, "the-value")).toBe("[secret]");
  expect(masked({ schema, isPublic: true }, "the-value")).toBe("the-value");
  expect(masked({ schema, mask: (text) => text.slice(0, 3) }, "the-value")).toBe("the");
});

test("config: the password in a socket's URL is secret too", () => {
  const url = "redis+unix://mail:p%40ss-word@localhost/run/redis@1.sock?db=2";
  expect(good({ REDIS_URL: url })).toMatchObject({ queue: { url }, secrets: ["p%40ss-word", "p@ss-word"] });
  expect(masked(settings.REDIS_URL.kind, url)).toBe(
    "redis+unix://mail:[secret]@localhost/run/redis@1.sock?db=2",
  );
  expect(good({ REDIS_URL: "redis+unix:///run/redis@1.sock" }).secrets).toEqual([]);
});

test("config: exactly these settings are secret", () => {
  expect(secretNames).toEqual(["API_TOKENS", "REDIS_URL", "RESEND_API_KEY", "POSTMARK_SERVER_TOKEN"]);
});

test.each(["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])(
  "config: %p is loopback and can be open",
  (HOST) => {
    expect(good({ ...enough, HOST }).host).toBe(HOST.replace(/[[\]]/g, ""));
  },
);

test("config: a host that is not loopback can be open with ALLOW_ANONYMOUS", () => {
  expect(good({ ...enough, HOST: "0.0.0.0", ALLOW_ANONYMOUS: "1" }).host).toBe("0.0.0.0");
});

test("config: each kind of process has its own admin port, unless it is turned off", () => {
  expect(good(enoughForWorker).admin).toEqual({ host: "127.0.0.1", port: 3001 });
  expect(good(enoughForWorker, "worker").admin).toEqual({ host: "127.0.0.1", port: 3002 });
  for (const role of ["server", "worker"] as const) {
    // An admin port on any address is allowed: it can change nothing.
    const open = { ...enoughForWorker, ADMIN_HOST: "[::]", ADMIN_PORT: "9100" };
    expect(good(open, role).admin).toEqual({ host: "::", port: 9100 });
    expect(good({ ...enoughForWorker, ADMIN_PORT: "0" }, role).admin?.port).toBe(0);
    for (const none of [{ ADMIN_PORT: "" }, { ADMIN_HOST: "" }]) {
      expect(good({ ...enoughForWorker, ...none }, role)).not.toHaveProperty("admin");
    }
  }
});

test("config: a server's admin port differs from its public port, which a worker does not have", () => {
  for (const same of [{ PORT: "3001" }, { ADMIN_PORT: "3000" }, { PORT: "1", ADMIN_PORT: "1" }]) {
    const env = { ...enoughForWorker, ...same };
    const [fault, ...others] = faults(env);
    expect(fault).toMatch(/^Cannot start: ADMIN_PORT "\d+" is the same as PORT$/);
    expect(others).toEqual([]);
    expect(good(env, "worker").admin).toBeDefined();
    expect(good({ ...env, ADMIN_HOST: "127.0.0.2" }).admin).toBeDefined();
    expect(good({ ...env, ADMIN_HOST: "" })).not.toHaveProperty("admin");
  }
  expect(good({ ...enough, PORT: "0", ADMIN_PORT: "0" }).admin?.port).toBe(0);
});

test("config: tokens allow a host that is not loopback, and are secret", () => {
  const config = good({ ...enough, HOST: "0.0.0.0", API_TOKENS: ` ${token}-1, ${token}-2 ,${token}-1` });
  expect(config.apiTokens).toEqual([`${token}-1`, `${token}-2`]);
  expect(config.secrets).toEqual(config.apiTokens!);
  expect(good({ ...enough, API_TOKENS: "x".repeat(16) }).apiTokens).toHaveLength(1);
  expect(good({ ...enough, API_TOKENS: "~".repeat(1024) }).apiTokens).toHaveLength(1);
});

test("config: allowed senders are addresses and domains, and include the default sender", () => {
  const env = { ...enough, ALLOWED_FROM: "shop@example.com, @Example.org" };
  expect(good(env).allowedFrom).toEqual(["shop@example.com", "@Example.org"]);
  expect(good({ ...env, DEFAULT_FROM: "any@example.ORG" }).defaultFrom).toBe("any@example.ORG");
  expect(faults({ ...env, DEFAULT_FROM: "Shop@example.com" })).toEqual([
    'Cannot start: DEFAULT_FROM "Shop@example.com" is not among ALLOWED_FROM',
  ]);
});

test("config: without PROVIDERS, all providers with credentials have equal weights", () => {
  const env = { ...enoughForWorker, POSTMARK_SERVER_TOKEN: "token" };
  expect(good(env, "worker").providers).toEqual([
    { name: "resend", weight: 1 },
    { name: "postmark", weight: 1 },
  ]);
});

test("config: a provider with credentials that is not named has weight 0", () => {
  const env = { ...enoughForWorker, POSTMARK_SERVER_TOKEN: "token", PROVIDERS: "postmark:3" };
  expect(good(env, "worker").providers).toEqual([
    { name: "postmark", weight: 3 },
    { name: "resend", weight: 0 },
  ]);
});

test("config: a worker needs a credential for each provider of positive weight, a server needs none", () => {
  const env = { ...enough, PROVIDERS: "resend:3,postmark:0" };
  expect(good(env).providers).toEqual([]);
  expect(faults(env, "worker")).toEqual(["Cannot start: RESEND_API_KEY is required: PROVIDERS names resend"]);
});

test("config: a worker needs a provider", () => {
  expect(faults(enough, "worker")).toHaveLength(1);
  expect(faults({ ...enoughForWorker, PROVIDERS: "resend:0" }, "worker")[0]).toContain("PROVIDERS");
});

test("config: the sandbox is used only when it is named, and needs no credential", () => {
  const alone = good({ ...enough, PROVIDERS: "sandbox" }, "worker");
  expect(alone.providers).toEqual([{ name: "sandbox", weight: 1 }]);

  const beside = { ...enoughForWorker, PROVIDERS: "resend:3,sandbox:0" };
  for (const role of ["server", "worker"] as const) {
    expect(good(beside, role).providers).toEqual([
      { name: "resend", weight: 3 },
      { name: "sandbox", weight: 0 },
    ]);
  }

  for (const PROVIDERS of ["", "resend"]) {
    const config = good({ ...enoughForWorker, PROVIDERS, SANDBOX_FAULTS: "hang:1%" }, "worker");
    expect(config.providers).toEqual([{ name: "resend", weight: 1 }]);
  }
  expect(faults(enough, "worker")[0]).toContain("PROVIDERS=sandbox");
  expect(faults({ ...enough, PROVIDERS: "sandbox:0" }, "worker")[0]).toContain("names no provider");
});

test.each([
  ["unavailable:10%", { unavailable: 0.1 }, [0, 0]],
  ["hang:0%,lose-answer:100%", { hang: 0, "lose-answer": 1 }, [0, 0]],
  [
    "unavailable:33.3%,throttle:33.3%,hang:33.4%",
    { unavailable: 0.333, throttle: 0.333, hang: 0.334 },
    [0, 0],
  ],
  [
    "unavailable:100%,reject:50%,refuse-sender:50%",
    { unavailable: 1, reject: 0.5, "refuse-sender": 0.5 },
    [0, 0],
  ],
  ["refuse-account:0.000001%", { "refuse-account": 0.000_000_01 }, [0, 0]],
  [" lose-request:2% , latency:50ms", { "lose-request": 0.02 }, [50, 50]],
  ["latency:50ms-2s", {}, [50, 2000]],
  ["latency:0ms-1h", {}, [0, 3_600_000]],
] as const)("config: %p is a list of faults", (text, chances, [minMs, maxMs]) => {
  const { sandboxFaults } = good({ ...enough, SANDBOX_FAULTS: text });
  expect(Object.keys(sandboxFaults!.chances)).toEqual(Object.keys(chances));
  for (const [name, chance] of Object.entries(chances)) {
    expect(sandboxFaults!.chances[name as keyof typeof chances]).toBeCloseTo(chance, 12);
  }
  expect(sandboxFaults!.latency).toEqual({ minMs, maxMs });
});

test("config: a trailing slash of a base URL is removed", () => {
  const { resendBaseUrl } = good({ ...enough, RESEND_BASE_URL: "http://127.0.0.1:7210/" });
  expect(resendBaseUrl).toBe("http://127.0.0.1:7210");
});

test("config: a secret can be in a file, and its trailing white space is removed", () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-config-"));
  try {
    const file = join(folder, "key");
    writeFileSync(file, "re_from_file \r\n\n");
    expect(good({ ...enough, RESEND_API_KEY_FILE: file }, "worker").resendApiKey).toBe("re_from_file");
    writeFileSync(file, `${token}-1,\n${token}-2\n`);
    expect(good({ ...enough, API_TOKENS_FILE: file }).apiTokens).toEqual([`${token}-1`, `${token}-2`]);
    expect(faults({ ...enough, API_TOKENS: token, API_TOKENS_FILE: file })).toEqual([
      "Cannot start: API_TOKENS and API_TOKENS_FILE are both given",
    ]);
    writeFileSync(file, "rediss://u:pw@redis.example.org:6380/2\n");
    const config = good({ REDIS_URL_FILE: file });
    expect(config.queue).toMatchObject({ url: "rediss://u:pw@redis.example.org:6380/2" });
    expect(config.secrets).toContain("pw");

    expect(faults({ ...enoughForWorker, RESEND_API_KEY_FILE: file })).toEqual([
      "Cannot start: RESEND_API_KEY and RESEND_API_KEY_FILE are both given",
    ]);
    writeFileSync(file, " \n");
    expect(faults({ REDIS_URL_FILE: file })).toEqual(["Cannot start: REDIS_URL_FILE names an empty file"]);
    expect(faults({ ...enough, POSTMARK_SERVER_TOKEN_FILE: join(folder, "none") })).toEqual([
      "Cannot start: POSTMARK_SERVER_TOKEN_FILE names a file that cannot be read (ENOENT)",
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("config: no message shows a secret", () => {
  const secret = "hunter2hunter2";
  const result = readConfig(
    {
      REDIS_URL: `redis://user:${secret}@host/x`,
      RESEND_API_KEY: `${secret} é`,
      POSTMARK_SERVER_TOKEN: `${secret}\u0001`,
      POSTMARK_BASE_URL: `http://u:${secret}@a`,
      API_TOKENS: `${secret}${secret},${secret}`,
      ALLOWED_FROM: secret,
    },
    "worker",
  );
  expect(JSON.stringify(result)).not.toContain(secret);
  expect(result.ok).toBe(false);
});

test("config: no environment makes reading it throw", () => {
  const names = [...settingNames, "REDIS_URL_FILE", "API_TOKENS_FILE"];
  const value = fc.oneof(
    fc.string(),
    fc.constantFrom("1s", "0", "redis://a", "resend:1", "sandbox", "hang:1%", "a@example.org"),
  );
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...names), value),
      fc.constantFrom("server", "worker"),
      (env, role) => {
        const result = readConfig(env, role as Role);
        if (result.ok) return;
        for (const line of result.message.split("\n")) expect(line).toMatch(/^Cannot start: [A-Z_]+ \S/);
      },
    ),
  );
});

test("config: a queue on a cluster has four partitions, any other one, unless REDIS_PARTITIONS says otherwise", () => {
  const partitions = (env: Record<string, string>) => {
    const { queue } = good({ ...enough, ...env });
    return queue.kind === "redis" && queue.partitions;
  };
  const cluster = { REDIS_URL: "redis+cluster://a:1,b:2" };
  expect(partitions({})).toBe(1);
  expect(partitions({ REDIS_URL: "redis+sentinel://a:1/main" })).toBe(1);
  expect(partitions(cluster)).toBe(4);
  expect(partitions({ ...cluster, REDIS_PARTITIONS: "6" })).toBe(6);
  expect(partitions({ REDIS_PARTITIONS: "2" })).toBe(2);
});

test("config: more than eight partitions cause a warning", () => {
  const warned = (count: string) => {
    const read = readConfig({ ...enough, REDIS_PARTITIONS: count }, "server");
    return read.ok && read.warnings.map(({ setting }) => setting);
  };
  expect(warned("8")).toEqual([]);
  expect(warned("9")).toEqual(["REDIS_PARTITIONS"]);
});
