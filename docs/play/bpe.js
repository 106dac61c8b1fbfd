// Captions as tokens: flowlib/text/bpe.py, words.py and nets/tokenizer.py.
//
// tests/site/test_bpe_js.py holds every token to Python's.
"use strict";

// Letters are what Python's \w has beside decimal digits and the underscore; white space is what str.isspace says.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WORD = new RegExp(
  ` ?[\\p{L}\\p{Nl}\\p{No}]+| ?\\p{Nd}+| ?[^\\p{L}\\p{N}${SPACE}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`, "gu",
);

class Tokenizer {
  // As `described` in flowlib/systems/graphs.py says it: merges, length of a row, start, end and padding.
  constructor({ merges, length, start, end, padding }) {
    Object.assign(this, { length, start, end, padding });
    const pieces = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)); // a letter is a byte
    const tokens = new Map(pieces.map((piece, token) => [piece, token]));
    this.joined = new Map(); // pair -> its rank, and the token that it becomes
    for (const [left, right] of merges) {
      const piece = pieces[left] + pieces[right], key = `${left},${right}`;
      if (!tokens.has(piece)) tokens.set(piece, pieces.push(piece) - 1);
      if (!this.joined.has(key)) this.joined.set(key, [this.joined.size, tokens.get(piece)]);
    }
  }

  // The tokens of a text, without special ones: in each word the earliest merge first, leftmost first.
  encode(text) {
    return (text.match(WORD) ?? []).flatMap((word) => {
      const tokens = Array.from(new TextEncoder().encode(word));
      for (;;) {
        let best = null;
        for (let at = 0; at + 1 < tokens.length; at++) {
          const found = this.joined.get(`${tokens[at]},${tokens[at + 1]}`);
          if (found && (best === null || found[0] < best.rank)) best = { rank: found[0], token: found[1], at };
        }
        if (best === null) return tokens;
        tokens.splice(best.at, 2, best.token);
      }
    });
  }

  // A row of `length` tokens: start, the text, end, padding. A text that is too long is an Error.
  row(text) {
    const tokens = this.encode(text), room = this.length - 2;
    if (tokens.length > room) throw new Error(`The caption is too long: ${tokens.length} tokens, and ${room} at most.`);
    return [this.start, ...tokens, this.end, ...Array(room - tokens.length).fill(this.padding)];
  }
}

if (typeof module !== "undefined") module.exports = { Tokenizer };
else globalThis.Tokenizer = Tokenizer;
