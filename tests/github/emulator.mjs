// The emulator of GitHub (npm `emulate`), and what its own seed file cannot do: people, repositories and pushes while it runs.
// Started as: node emulator.mjs FOLDER, where FOLDER/node_modules has the package. Says its port in a line of its own.
import { pathToFileURL } from "node:url";

const dist = pathToFileURL(`${process.argv[2]}/node_modules/emulate/dist/`);
const { createEmulator } = await import(new URL("api.js", dist));
const { githubPlugin, getGitHubStore, seedFromConfig } = await import(new URL("dist-DWLNEG6M.js", dist));

const BASE = "http://emulator.invalid"; // the front knows its own URLs by it, and puts its address there
const events = [];

const collaborator = (gh, repo, login, permission) => {
  const user = gh.users.findOneBy("login", login);
  const existing = gh.collaborators.findBy("repo_id", repo.id).find((one) => one.user_id === user.id);
  if (existing) gh.collaborators.update(existing.id, { permission });
  else gh.collaborators.insert({ repo_id: repo.id, user_id: user.id, permission });
};

const commands = {
  user({ gh, store, tokens }, { login, name, email, orgs, token }) {
    seedFromConfig(store, BASE, { users: [{ login, name, email }], orgs: orgs.map((org) => ({ login: org, members: [{ login }] })) });
    const user = gh.users.findOneBy("login", login);
    tokens.set(token, { login, id: user.id, scopes: ["repo", "user", "admin:org", "admin:repo_hook"] });
    return { id: user.id };
  },
  app({ store }, app) {
    seedFromConfig(store, BASE, { oauth_apps: [app] });
    return {};
  },
  repo({ gh, store }, { full_name, permissions, settings, default_branch }) {
    const [owner, name] = full_name.split("/");
    if (!gh.users.findOneBy("login", owner)) seedFromConfig(store, BASE, { orgs: [{ login: owner }] });
    seedFromConfig(store, BASE, { repos: [{ owner, name, private: settings.private, default_branch, auto_init: false }] });
    const repo = gh.repos.findOneBy("full_name", full_name);
    gh.repos.update(repo.id, settings);
    for (const [login, permission] of Object.entries(permissions)) collaborator(gh, repo, login, permission);
    return { id: repo.id };
  },
  // All branches of a repository as git has them; the commits the emulator may not know. Gives the pull requests that moved.
  refs({ gh }, { full_name, branches, commits, at }) {
    const repo = gh.repos.findOneBy("full_name", full_name);
    const known = new Set(gh.commits.findBy("repo_id", repo.id).map((commit) => commit.sha));
    for (const commit of commits) {
      if (!known.has(commit.sha)) gh.commits.insert({ repo_id: repo.id, node_id: commit.sha, user_id: null, ...commit });
    }
    for (const branch of [...gh.branches.findBy("repo_id", repo.id)]) if (!(branch.name in branches)) gh.branches.delete(branch.id);
    for (const ref of [...gh.refs.findBy("repo_id", repo.id)]) {
      if (ref.ref.startsWith("refs/heads/") && !(ref.ref.slice(11) in branches)) gh.refs.delete(ref.id);
    }
    for (const [name, sha] of Object.entries(branches)) {
      const branch = gh.branches.findBy("repo_id", repo.id).find((one) => one.name === name);
      if (branch) gh.branches.update(branch.id, { sha });
      else gh.branches.insert({ repo_id: repo.id, name, sha, protected: false });
      const ref = gh.refs.findBy("repo_id", repo.id).find((one) => one.ref === `refs/heads/${name}`);
      if (ref) gh.refs.update(ref.id, { sha });
      else gh.refs.insert({ repo_id: repo.id, ref: `refs/heads/${name}`, sha, node_id: name });
    }
    gh.repos.update(repo.id, { pushed_at: at, size: 1 });
    const moved = [];
    for (const pull of gh.pullRequests.findBy("repo_id", repo.id).filter((one) => one.state === "open")) {
      const head = branches[pull.head_ref], base = branches[pull.base_ref];
      if (head && head !== pull.head_sha) moved.push(pull.number);
      gh.pullRequests.update(pull.id, { head_sha: head ?? pull.head_sha, base_sha: base ?? pull.base_sha });
    }
    return { moved };
  },
  merged({ gh }, { full_name, number, sha }) {
    const repo = gh.repos.findOneBy("full_name", full_name);
    const pull = gh.pullRequests.findBy("repo_id", repo.id).find((one) => one.number === number);
    gh.pullRequests.update(pull.id, { merge_commit_sha: sha });
    return {};
  },
  // A draft by its node id; with `done` it is none any more.
  ready({ gh }, { node_id, done }) {
    const pull = gh.pullRequests.all().find((one) => one.node_id === node_id);
    if (!pull) return {};
    if (done) gh.pullRequests.update(pull.id, { draft: false });
    return { full_name: gh.repos.get(pull.repo_id).full_name };
  },
  // A review comment that belongs to a review.
  in_review({ gh }, { id, review_id }) {
    gh.comments.update(id, { review_id });
    return {};
  },
  events: () => events.splice(0),
};

const register = githubPlugin.register;
githubPlugin.register = (app, store, webhooks, baseUrl, tokens) => {
  webhooks.dispatch = async (event, action, payload) => void events.push({ event, payload });
  register.call(githubPlugin, app, store, webhooks, baseUrl, tokens);
  const rows = { gh: getGitHubStore(store), store, tokens };
  app.post("/_stand_in/:command", async (c) => c.json(commands[c.req.param("command")](rows, await c.req.json())));
};

await createEmulator({
  service: "github",
  port: Number(process.argv[3]),
  hostname: "127.0.0.1",
  baseUrl: BASE,
  seed: { tokens: { "as:admin": { login: "admin" } }, github: {} },
});
console.log("ready");
process.stdin.resume().on("end", () => process.exit()); // whoever started it is gone
