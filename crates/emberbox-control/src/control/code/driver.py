# Runs cells of code that keep their names. A request is a line of JSON on
# standard input; its answer is one on what was standard output at the start.
import ast, base64, json, linecache, os, sys, traceback

KEPT = 256 * 1024  # bytes of each stream that are told
RESULT = 64 * 1024  # characters of a result that are told

os.environ.pop("EMBERBOX_DRIVER", None)
requests = os.fdopen(os.dup(0), "rb")
answers = os.dup(1)
nothing = os.open(os.devnull, os.O_RDWR)
os.dup2(nothing, 0)
os.dup2(nothing, 1)
os.dup2(nothing, 2)
names = {"__name__": "__main__"}


def run(code, name):
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    if last is not None:
        return eval(compile(ast.Expression(last.value), name, "eval"), names)


def shown(value):
    try:
        text = json.dumps(value, allow_nan=False)
        if len(text) <= RESULT:
            return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        pass
    return repr(value)[:RESULT]


def kept(file):
    data = os.pread(file, KEPT, 0)
    return base64.b64encode(data).decode(), os.fstat(file).st_size > KEPT


def answer(reply):
    data = ("\n" + json.dumps(reply) + "\n").encode()
    while data:
        data = data[os.write(answers, data):]


count = 0
while True:
    line = requests.readline()
    if not line:
        break
    request = json.loads(line)
    count += 1
    streams = [os.memfd_create("stdout"), os.memfd_create("stderr")]
    os.dup2(streams[0], 1)
    os.dup2(streams[1], 2)
    ok, result = True, None
    try:
        result = shown(run(request["code"], f"<cell {count}>"))
    except BaseException as error:
        ok = False
        frames = error.__traceback__
        inner = None if isinstance(error, SyntaxError) else frames.tb_next and frames.tb_next.tb_next
        traceback.print_exception(type(error), error, inner)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    (stdout, more_out), (stderr, more_err) = map(kept, streams)
    for file in streams:
        os.close(file)
    answer({
        "id": request["id"], "ok": ok, "stdout": stdout, "stderr": stderr,
        "result": result, "truncated": more_out or more_err,
    })
