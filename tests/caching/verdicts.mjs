// Judges what the client of http-tests/cache-tests has found, by the suite's own rules. In: its results as JSON; the suite's
// folder is the argument. Out: for each kind of case how many there are and which were not passed.
import { readFileSync } from 'fs'

const suite = process.argv[2]
const { determineTestResult, resultTypes } = await import(`${suite}/test-engine/lib/results.mjs`)
const tests = (await import(`${suite}/tests/index.mjs`)).default
const results = JSON.parse(readFileSync(0, 'utf8'))
const verdicts = {}
for (const { tests: cases } of tests) {
  for (const { id, kind = 'required', browser_only: browserOnly } of cases) {
    if (browserOnly) continue
    const verdict = determineTestResult(tests, id, results, false)
    const name = Object.keys(resultTypes).find(name => resultTypes[name] === verdict)
    verdicts[kind] ??= { cases: 0, failed: {} }
    verdicts[kind].cases += 1
    if (name !== 'pass' && name !== 'yes') verdicts[kind].failed[id] = `${name}: ${results[id]?.[1] ?? ''}`
  }
}
console.log(JSON.stringify(verdicts))
