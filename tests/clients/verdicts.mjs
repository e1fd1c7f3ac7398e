// One line for every check, then `N passed, N failed`; the process ends with 1 if one failed. ONLY=text makes the checks with it in their name.

const { ONLY } = process.env;
let passed = 0, failed = 0;

export async function check(name, test) {
  if (ONLY && !name.includes(ONLY)) return;
  try {
    await test();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error?.name}: ${String(error?.message).slice(0, 900)}`);
  }
}

export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
