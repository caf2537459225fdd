// The URLs and ids of this example, from the environment; the README says which command prints each.

function setting(name, otherwise) {
  const value = process.env[name] ?? otherwise;
  if (value === undefined) {
    console.error(`${name} is not set; see README.md`);
    process.exit(2);
  }
  return value;
}

export const issuer = setting('ISSUER', 'http://localhost:8080'); // Cardea
export const mcpServer = setting('MCP_SERVER', 'http://localhost:8090'); // server.mjs: a resource of Cardea's
export const app = setting('APP', 'http://localhost:8091'); // client.mjs: where a person's browser comes back to

// An id and a secret are asked for when they are used, so that the server need not know the clients' and vice versa.
export const id = (name) => setting(`${name}_CLIENT_ID`);
export const secret = (name) => setting(`${name}_CLIENT_SECRET`);
