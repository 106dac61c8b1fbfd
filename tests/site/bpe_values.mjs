// The tokens of texts, as docs/play/bpe.js makes them: {tokenizer, texts} in, a row or an error's message for each out.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Tokenizer } = createRequire(import.meta.url)("../../docs/play/bpe.js");
const { tokenizer, texts } = JSON.parse(readFileSync(0, "utf8"));
const made = new Tokenizer(tokenizer);
const row = (text) => {
  try {
    return made.row(text);
  } catch (error) {
    return error.message;
  }
};
console.log(JSON.stringify(texts.map((text) => ({ tokens: made.encode(text), row: row(text) }))));
