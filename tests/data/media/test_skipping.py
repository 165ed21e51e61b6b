import av
import numpy as np
import pytest

from fgmm.data.media import av_files

FPS = 25


@pytest.fixture(scope="module", params=["bframes=3:b-pyramid=normal", "bframes=2:open-gop=1"])
def video(request, tmp_path_factory):
    """Pictures that differ everywhere, coded out of order, many referred to by none."""
    path = tmp_path_factory.mktemp("skipping") / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (80, 200, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.options = {"x264-params": f"keyint=30:scenecut=0:b-adapt=0:{request.param}"}
        for number in range(4 * FPS):
            picture = np.ascontiguousarray(noise[number % 16 :][:64, number:][:, :96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


def read(video, **window):
    return av_files.read_frames(video, **window, size=1000)


def test_pictures_left_out_change_none_of_the_others(video):
    with av.open(str(video)) as container:
        shown = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert len(shown) == 4 * FPS
    for start in (0.0, 0.3, 1.13, 1.2, 2.4):
        for seconds, count in ((1.5, 3), (1.5, 15), (0.2, 5), (1.6, 40)):
            moments = [start + (i + 0.5) * seconds / count for i in range(count)]
            frames = read(video, start=start, seconds=seconds, count=count)
            for moment, picture in zip(moments, frames, strict=True):
                due = [array for time, array in shown if time <= moment]
                np.testing.assert_array_equal(picture, due[-1], err_msg=f"{moment}")


def test_pictures_that_nobody_sees_are_left_out(video, monkeypatch):
    decoded, counts = av_files.decoded, []

    def counted(*arguments):
        for frame in decoded(*arguments):
            counts[-1] += 1
            yield frame

    monkeypatch.setattr(av_files, "decoded", counted)
    for skipping in (av_files.skipping, lambda packets, *_: packets):
        monkeypatch.setattr(av_files, "skipping", skipping)
        counts.append(0)
        read(video, start=1.3, seconds=2.0, count=3)
    assert counts[0] < 0.75 * counts[1]
