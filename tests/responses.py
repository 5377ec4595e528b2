"""What a UE would cost with each placement, slowly and by the simulator alone."""

import numpy as np

from mjoa_gym import Plan, evaluate_cost


def costs_of(instance, i, rows, band, compute):
    """(rows,) what UE i costs with each placement, by the simulator; the others do nothing."""
    costs = []
    for row in rows:
        placements = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
        placements[i] = row
        shares = np.zeros((2, instance.n_ues))
        shares[:, i] = band, compute
        costs.append(evaluate_cost(instance, Plan(placements, *shares))[i])
    return np.array(costs)
