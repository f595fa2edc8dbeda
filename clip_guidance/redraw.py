"""Draw the Text-to-image tab's opening pictures: `python -m clip_guidance.redraw --bundle B`."""

from __future__ import annotations

import io
from pathlib import Path

import checkpoints
from clip_guidance import record
from clip_guidance.examples import FOLDER, PROMPTS, weights_id
from clip_guidance.generate import last, together
from clip_guidance.guide import GuidanceConfig, methods
from clip_guidance.modes import Request, run
from training import flags
from training.files import swap, usable_folder
from training.memory import keep_pages


def main(argv: list[str] | None = None) -> None:
    p = flags.Parser(prog="python -m clip_guidance.redraw", description=__doc__)
    p.add_argument("--bundle", default=checkpoints.DEFAULT, help="name or folder (%(default)s)")
    args = p.parse_args(argv)
    keep_pages()
    try:
        bundle = checkpoints.load(args.bundle)
        models = together(bundle, None, "cpu")
        folder = Path(bundle.path) / FOLDER
        usable_folder(folder)
        drawn, said = {}, []
        mode = "both" if bundle.prior is not None else "guided"
        guidance = GuidanceConfig(method=methods(bundle.vqgan)[0])  # as the tab opens with
        for number, prompt in enumerate(PROMPTS):
            request = Request(prompt, mode, guidance=guidance)
            image, codes, score = last(models, run(models, request), request)
            also = {"bundle": bundle.name, "clip": models.clip.name, "score": round(score, 4)}
            made = record.settings(request, **also, weights=weights_id(bundle.card))
            file = io.BytesIO()
            record.write(file, image, made, codes)
            drawn[f"{number}.png"] = file.getvalue()
            said.append(f"{folder / f'{number}.png'}: {prompt}, score {score:.3f}")
        swap(folder, "*.png", drawn)  # only now: what was there stays if drawing fails
    except (ValueError, OSError) as error:
        flags.fail(error)
    print("\n".join(said))


if __name__ == "__main__":
    main()
