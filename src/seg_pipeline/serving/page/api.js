// Requests to the server; a failed one throws an Error with the server's message.

const KEY = "seg-pipeline-token";
const BUSY = [429, 503];
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export function rememberToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `The server responded with status ${answer.status}.` }));
  const wait = Number(answer.headers.get("Retry-After"));
  throw Object.assign(new Error(problem.detail), { status: answer.status, wait });
}

export async function readModel() {
  return (await ask("api/model")).json();
}

export async function readExample(number, name) {
  return new File([await (await ask(`api/examples/${number}`)).blob()], name);
}

/** Send an image and return the answer; `query` holds [name, value] pairs. A busy server is asked again. */
export async function predict(file, query, signal) {
  const body = new FormData();
  body.append("image", file, file.name || "image");
  for (let left = 5; ; left -= 1) {
    try {
      return await (await ask(`api/predict?${new URLSearchParams(query)}`, { method: "POST", body, signal })).json();
    } catch (error) {
      if (!BUSY.includes(error.status) || !left) throw error;
      await pause(error.wait || 1);
    }
  }
}

/** Keep an image and its masks, run lengths by class, on the server. */
export async function save(file, page, masks) {
  const body = new FormData();
  body.append("image", file, file.name || "image");
  body.append("masks", new Blob([JSON.stringify(masks)]), "masks.json");
  return (await ask(`api/save?page=${page}`, { method: "POST", body })).json();
}
