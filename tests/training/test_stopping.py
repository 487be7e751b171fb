from sktvae._training.stopping import EarlyStopping


def follow(losses, n_iter_no_change=2, tol=0.0):
    """Which losses are the lowest, and after how many it is over."""
    stopping, lowest = EarlyStopping(n_iter_no_change, tol), []
    for loss in losses:
        lowest.append(stopping.update(loss))
        if stopping.should_stop:
            break
    return lowest


def test_it_is_over_after_so_many_checks_without_an_improvement():
    assert follow([3, 2, 2, 1, 4, 5, 0]) == [True, True, False, True, False, False]


def test_a_loss_may_be_lowest_and_no_improvement():
    """Small steps down are the weights to keep, and use up the patience."""
    assert follow([3, 2.95, 2.92, 0], tol=0.1) == [True] * 3
    assert follow([3, 2.95, 2.8, 2.75], tol=0.1) == [True] * 4
