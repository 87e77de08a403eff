from continuum import Signal, wait_signal, workflow

approved = Signal("corpus_approved", str)
rejected = Signal("corpus_rejected", str)


@workflow(name="corpus.undeclared", signals=[approved])
async def bad_undeclared():
    await wait_signal("corpus_other")  # !CT601
    await rejected.wait()  # !CT601
    return await approved.wait()


@workflow(name="corpus.declared", signals=[approved, "corpus_plain"])
async def good_declared():
    await wait_signal("corpus_plain")
    return await approved.wait()


@workflow(name="corpus.any")
async def good_any():
    return await rejected.wait()
