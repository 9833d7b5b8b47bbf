// Starts npm's emulator of Firestore at the port that the first argument names; the second is the folder of its modules.
const { createRequire } = require("node:module");

const [port, modules] = process.argv.slice(2);
const { FirestoreServer } = createRequire(`${modules}/`)("@firestore-emulator/server");
new FirestoreServer().start(Number(port));
