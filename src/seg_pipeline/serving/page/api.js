// Requests to the server; a failed one throws an Error with the server's message.

const KEY = "seg-pipeline-token";

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
  throw Object.assign(new Error(problem.detail), { status: answer.status });
}

export async function readModel() {
  return (await ask("api/model")).json();
}

/** Send an image and return the response; `query` holds [name, value] pairs. */
export function predict(file, query, signal) {
  const body = new FormData();
  body.append("image", file, file.name || "image");
  return ask(`api/predict?${new URLSearchParams(query)}`, { method: "POST", body, signal });
}
