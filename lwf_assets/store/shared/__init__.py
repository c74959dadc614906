"""A store that several machines share: artifacts in an object store, of which each machine's own store is a cache.

    lwf-store.json               says that the place is one of ours
    records/<path>               the small files of a store (manifests, recipes, pointers, verdicts, studies), by the
                                 same path as in the local one
    published/<asset>/<partition>/<version>    all files of that artifact are there
    doomed/<asset>/<partition>/<version>       nothing needs it any more; its files are removed after a while
    files/<ab>/<sha256>          the files, each once, whatever artifacts it is in
    scratch/<asset>/<partition>/<recipe>.json  the files of unfinished work that another machine can go on from

An artifact is published files first, then the mark that they are all there, then its manifest, and last the recipe's
entry, which is only written where there is none: of two machines that make the same recipe, the first one's manifest is
believed by both. What is read is believed by its hashes alone: manifests by their seals, files by their sha256.
"""
