// Reads [{name, schema, text, value}] from the file of its argument and prints, of each, how many tokens its two forms
// take (o200k_base) and what of `value` does not conform to `schema` (JSON Schema 2020-12).
"use strict";
const { readFileSync } = require("node:fs");
const Ajv = require("ajv/dist/2020").default;
const { countTokens } = require("gpt-tokenizer/cjs/encoding/o200k_base");

const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
const judged = JSON.parse(readFileSync(process.argv[2], "utf8")).map(({ name, schema, text, value }) => {
  const conforms = ajv.compile(schema);
  const errors = conforms(value) ? "" : ajv.errorsText(conforms.errors);
  return { name, errors, text: countTokens(text), structured: countTokens(JSON.stringify(value)) };
});
console.log(JSON.stringify(judged));
