import pytest

from tests.unit.deploy.rendered import VALUES, Chart, Release, render_all


@pytest.fixture(scope="session")
def chart() -> Chart:
    return render_all()


@pytest.fixture(params=list(VALUES), scope="session")
def release(chart: Chart, request: pytest.FixtureRequest) -> Release:
    return Release(chart.cases[request.param])
