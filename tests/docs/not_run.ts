// The commands of the documents that no test of their page runs, with the reason. All others run.

const network = "it downloads, and the machine of the tests has no network";
const suite = "it runs these tests, or runs before them";
const long = "it takes many minutes; tests/chaos runs each scenario for two seconds";
const measures = "it takes minutes, and changes what the page says";
const deploy = "docs/deploy-systemd.md has the same line";

/** By page and command: the reason. */
export const notRun: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "CONTRIBUTING.md": {
    "npm ci": suite,
    "bun install": "the page says not to",
    "npm test": suite,
    "npm test -- tests/policy": suite,
    "npm test -- --update-timings": suite,
    "npm run check": suite,
    "npx bun docs/images/photograph.ts FOLDER": "tests/clients drives the same views in the same browser",
    "npx bun test --isolate tests/cli": suite,
    "npm run chaos -- --scenario everything --minutes 1": long,
    "npm ci && npm test": suite,
  },
  "README.md": {
    "npm ci && npm run build": deploy,
    "dist/reliable-email --help": deploy,
    "npm ci && npm test": suite,
  },
  "docs/benchmarks.md": {
    "apt-get install wrk": network,
    "npm run bench -- submit": "CONTRIBUTING.md has it, shortened",
    "npm run bench -- --help": "tests/docs.test.ts runs it",
    "npm run bench -- submit --rounds 3 --seconds 3": measures,
    "npm run bench -- files --rounds 3 --seconds 2": measures,
    "npx bun bench/report.ts RUN.json": "tests/bench.test.ts does it",
    "npx bun docs/images/draw_benchmarks.ts RUN.json FILE.svg": "tests/bench.test.ts does it",
  },
  "docs/capacity.md": {
    "npm run bench -- costs --json > bench/capacity/costs.json": measures,
    "npx bun bench/capacity/main.ts": "tests/bench/capacity.test.ts computes the same",
    "npm run bench -- fleet": "tests/bench/fleet.test.ts simulates a smaller fleet",
    "npx bun docs/images/draw_outage.ts": "tests/bench/fleet.test.ts draws a smaller fleet",
  },
  "docs/deploy-redis.md": {
    "redis-check-aof --fix": "the page warns against it: it would remove everything after the damage",
    "redis-cli --cluster fix":
      "it needs a cluster in which a move was broken off; tests/queue/topology_cluster.test.ts runs it",
    "npm run bench -- failover": "it takes many minutes; tests/bench.test.ts runs one round",
  },
  "docs/deploy-systemd.md": {
    "npm run build -- linux-arm64": network,
  },
  "docs/getting-started.md": {
    "apt-get install redis-server curl": network,
  },
  "docs/reliability-testing.md": {
    "npm run chaos -- --scenario all": long,
    "npm run chaos -- --scenario nodes --store sentinel,cluster --minutes 0.1 --seed 1": long,
    "npm test -- tests/chaos": suite,
    "npm run chaos -- --scenario everything,everything-redis --minutes 3 --kills 500 --emails 200000 --rate 800 --seed 2026":
      long,
  },
  "docs/upgrading.md": {
    "git pull && npm ci": network,
  },
};
