"""What every Python client test ends with: a line for every check, then `N passed, N failed`, and 1 if one failed."""

import sys

passed = failed = 0
# Called before every check, if a test sets it.
before = None


def check(name, test):
    """Runs one check; what it raises is its failure."""
    global passed, failed
    try:
        if before:
            before()
        test()
    except Exception as error:  # a check may fail in any way
        failed += 1
        print(f"FAIL {name}: {type(error).__name__}: {str(error)[:800]}", flush=True)
    else:
        passed += 1
        print(f"ok   {name}", flush=True)


def finish():
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
